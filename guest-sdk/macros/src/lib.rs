//! The attribute macros of `clasp-guest`. Use them through that crate.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use std::time::Duration;
use syn::{
    Error, Expr, ItemFn, LitStr, Result, ReturnType, Token, Type,
    parse::{Parse, ParseStream},
    parse_macro_input, parse_quote,
};

/// Runs a function under the exclusive lock of a path.
///
/// ```no_run
/// use clasp_guest::interprocess_locked;
///
/// #[interprocess_locked("data/report.lock", timeout = "10s")]
/// fn report(text: &str) -> std::io::Result<()> {
///     std::fs::write("data/report", text)
/// }
/// ```
///
/// The path is an expression. `timeout` is a number with a unit, such as
/// `250ms`, `10s` or `1m 30s`. A function
/// whose return type is a `Result` returns the lock's error, by way of `?`;
/// any other panics with it. The lock is opened at each call.
#[proc_macro_attribute]
pub fn interprocess_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let lock = quote!(InterProcessLock);
    between_processes(arguments, function, lock, "acquire")
}

/// Runs a function under a shared lock of a path. See
/// `interprocess_locked` for the arguments.
#[proc_macro_attribute]
pub fn interprocess_read_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let lock = quote!(InterProcessReaderWriterLock);
    between_processes(arguments, function, lock, "read")
}

/// Runs a function under the exclusive side of a reader-writer lock of a path.
/// See `interprocess_locked` for the arguments.
#[proc_macro_attribute]
pub fn interprocess_write_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let lock = quote!(InterProcessReaderWriterLock);
    between_processes(arguments, function, lock, "write")
}

/// Runs an asynchronous method while its task holds the `ReaderWriterLock` in
/// `self.lock` for reading. Another lock is named by an expression:
/// `#[read_locked(self.cache_lock)]`.
///
/// ```
/// use clasp_guest::{ReaderWriterLock, read_locked};
///
/// struct Cache { lock: ReaderWriterLock, entries: Vec<u32> }
///
/// impl Cache {
///     #[read_locked]
///     async fn sum(&self) -> u32 {
///         self.entries.iter().sum()
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn read_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    between_tasks(arguments, function, quote!(read))
}

/// Runs an asynchronous method while its task holds the `ReaderWriterLock` in
/// `self.lock`, or in the expression given, for writing. See `read_locked`.
#[proc_macro_attribute]
pub fn write_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    between_tasks(arguments, function, quote!(write))
}

struct Arguments {
    path: Expr,
    timeout: Option<Duration>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Arguments> {
        if input.is_empty() {
            return Err(input.error("expected the path of the lock, such as \"locks/a.lock\""));
        }
        let path = input.parse()?;
        let mut timeout = None;
        if input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            let name: syn::Ident = input.parse()?;
            if name != "timeout" {
                return Err(Error::new(name.span(), "expected `timeout = \"10s\"`"));
            }
            input.parse::<Token![=]>()?;
            let text: LitStr = input.parse()?;
            timeout = Some(duration(&text)?);
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(Arguments { path, timeout })
    }
}

/// Parses a number with a unit.
fn duration(text: &LitStr) -> Result<Duration> {
    humantime::parse_duration(&text.value()).map_err(|error| {
        let text = text.span();
        Error::new(
            text,
            format!("expected a time such as \"10s\" or \"250ms\": {error}"),
        )
    })
}

fn between_processes(
    arguments: TokenStream,
    function: TokenStream,
    lock: Tokens,
    acquire: &str,
) -> TokenStream {
    let Arguments { path, timeout } = parse_macro_input!(arguments);
    let mut function: ItemFn = parse_macro_input!(function);
    if let Some(word) = function.sig.asyncness {
        let error = Error::new(
            word.span,
            "an asynchronous function would halt its whole component while it waits; \
             make it a plain function",
        );
        return error.into_compile_error().into();
    }
    let method = syn::Ident::new(
        &match timeout {
            Some(_) => format!("{acquire}_timeout"),
            None => acquire.to_owned(),
        },
        proc_macro2::Span::call_site(),
    );
    let timeout = timeout.map(|t| {
        let nanos = u64::try_from(t.as_nanos()).unwrap_or(u64::MAX);
        quote!(::core::time::Duration::from_nanos(#nanos))
    });
    let guard = quote! {
        ::clasp_guest::#lock::new(#path).and_then(|lock| lock.#method(#timeout))
    };
    let guard = if returns_result(&function) {
        quote!(#guard?)
    } else {
        quote!(#guard.unwrap_or_else(|error| ::core::panic!("{error}")))
    };
    let block = &function.block;
    function.block = parse_quote!({
        let _clasp_guard = #guard;
        #block
    });
    quote!(#function).into()
}

fn between_tasks(arguments: TokenStream, function: TokenStream, side: Tokens) -> TokenStream {
    let lock: Expr = if arguments.is_empty() {
        parse_quote!(self.lock)
    } else {
        parse_macro_input!(arguments)
    };
    let mut function: ItemFn = parse_macro_input!(function);
    if function.sig.asyncness.is_none() {
        let error = Error::new_spanned(
            function.sig.fn_token,
            "only an asynchronous function can wait for other tasks; make it `async fn`",
        );
        return error.into_compile_error().into();
    }
    let block = &function.block;
    function.block = parse_quote!({
        let _clasp_guard = (#lock).#side().await;
        #block
    });
    quote!(#function).into()
}

/// Whether the return type is called `Result`, by whatever path.
fn returns_result(function: &ItemFn) -> bool {
    let ReturnType::Type(_, returned) = &function.sig.output else {
        return false;
    };
    match &**returned {
        Type::Path(path) => path
            .path
            .segments
            .last()
            .is_some_and(|segment| segment.ident == "Result"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Duration> {
        duration(&LitStr::new(text, proc_macro2::Span::call_site())).ok()
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse("10s"), Some(Duration::from_secs(10)));
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse("1h"), Some(Duration::from_secs(3600)));
        for wrong in ["", "10", "s", "-1s", "ten s", "99999999999999999999s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn results_are_told_by_their_name() {
        let returns = |text: &str| {
            returns_result(&syn::parse_str(&format!("fn f() {text} {{ todo() }}")).unwrap())
        };
        assert!(returns("-> Result<(), Error>"));
        assert!(returns("-> std::io::Result<()>"));
        assert!(!returns(""));
        assert!(!returns("-> Option<Result<(), ()>>"));
    }
}
