//! The arguments of the attributes for locks between processes.

use proc_macro2::TokenStream as Tokens;
use quote::quote;
use std::time::Duration;
use syn::{
    Error, Expr, ExprLit, Lit, LitStr, Path, Result, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
};

/// What becomes of a lock that cannot be taken.
pub(crate) enum Failure {
    /// Its error is returned, turned into another by a function if there is one.
    Return(Option<Box<Expr>>),
    /// The function panics.
    Panic,
}

pub(crate) struct Arguments {
    pub(crate) path: Expr,
    /// How many permits a semaphore has.
    pub(crate) permits: Option<Expr>,
    /// An expression of type `Duration`.
    pub(crate) timeout: Option<Tokens>,
    pub(crate) failure: Failure,
    /// Where `clasp_guest` is.
    pub(crate) krate: Tokens,
}

const EXPECTED: &str = "expected `timeout = \"10s\"`, `map_err = FUNCTION`, `panic`, \
                        `crate = PATH` or, for a semaphore, `permits = 4`";

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Arguments> {
        if input.is_empty() {
            return Err(input.error("expected the path of the lock, such as \"locks/a.lock\""));
        }
        let path = input.parse()?;
        let (mut permits, mut timeout, mut failure, mut krate) = (None, None, None, None);
        while input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let word = input.call(syn::Ident::parse_any)?;
            let twice = || Error::new(word.span(), format!("`{word}` is there twice"));
            if word == "panic" {
                if failure.replace(Failure::Panic).is_some() {
                    let why = "`panic` leaves no error to map, and is given once";
                    return Err(Error::new(word.span(), why));
                }
                continue;
            }
            if !["permits", "timeout", "map_err", "crate"]
                .iter()
                .any(|known| word == known)
            {
                return Err(Error::new(word.span(), EXPECTED));
            }
            input.parse::<Token![=]>()?;
            if word == "permits" {
                if permits.replace(input.parse()?).is_some() {
                    return Err(twice());
                }
            } else if word == "timeout" {
                if timeout.replace(duration(input.parse()?)?).is_some() {
                    return Err(twice());
                }
            } else if word == "map_err" {
                let map = Failure::Return(Some(input.parse()?));
                if failure.replace(map).is_some() {
                    let why = "`map_err` has no error to map beside `panic`, and is given once";
                    return Err(Error::new(word.span(), why));
                }
            } else if krate.replace(input.call(Path::parse_mod_style)?).is_some() {
                return Err(twice());
            }
        }
        if !input.is_empty() {
            return Err(input.error(EXPECTED));
        }
        Ok(Arguments {
            path,
            permits,
            timeout,
            failure: failure.unwrap_or(Failure::Return(None)),
            krate: krate.map_or_else(|| quote!(::clasp_guest), |path| quote!(#path)),
        })
    }
}

/// A time: a number with a unit, or an expression.
fn duration(given: Expr) -> Result<Tokens> {
    let Expr::Lit(ExprLit { lit, .. }) = &given else {
        return Ok(quote!(#given));
    };
    let Lit::Str(text) = lit else {
        let why = "expected a time with a unit, such as \"10s\", or a `Duration`";
        return Err(Error::new(lit.span(), why));
    };
    let time = parse(text)?;
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Ok(quote!(::core::time::Duration::from_nanos(#nanos)))
}

fn parse(text: &LitStr) -> Result<Duration> {
    humantime::parse_duration(&text.value()).map_err(|error| {
        let why = format!("expected a time such as \"10s\" or \"250ms\": {error}");
        Error::new(text.span(), why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Option<Duration> {
        parse(&LitStr::new(text, proc_macro2::Span::call_site())).ok()
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(time("10s"), Some(Duration::from_secs(10)));
        assert_eq!(time("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(time("2m"), Some(Duration::from_secs(120)));
        assert_eq!(time("1h"), Some(Duration::from_secs(3600)));
        for wrong in ["", "10", "s", "-1s", "ten s", "99999999999999999999s"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    fn arguments(text: &str) -> std::result::Result<Arguments, String> {
        syn::parse_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_come_in_any_order_and_once() {
        let given =
            arguments("PATH, crate = crate::locks, panic, timeout = self.patience").unwrap();
        assert!(matches!(given.failure, Failure::Panic));
        assert_eq!(given.krate.to_string(), "crate :: locks");
        assert_eq!(given.timeout.unwrap().to_string(), "self . patience");
        let given = arguments("\"a\", map_err = |error| error.to_string(),").unwrap();
        assert!(matches!(given.failure, Failure::Return(Some(_))));
        for (wrong, why) in [
            ("", "the path"),
            ("\"a\", wait = 1", "expected `timeout"),
            ("\"a\" \"b\"", "expected"),
            ("\"a\", timeout = 10", "unit"),
            ("\"a\", timeout = \"1s\", timeout = \"1s\"", "twice"),
            ("\"a\", permits = 1, permits = 2", "twice"),
            ("\"a\", panic, map_err = f", "no error to map"),
            ("\"a\", map_err = f, panic", "no error to map"),
        ] {
            let error = arguments(wrong).map(drop).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
