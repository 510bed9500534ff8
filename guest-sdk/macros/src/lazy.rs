//! Functions whose work is done after they have returned, and the lock is released.

use syn::{Error, Path, Result, ReturnType, Type, TypeParamBound, visit::Visit};

/// Traits whose implementors run when they are used, by their last name.
const LAZY_TRAITS: [&str; 8] = [
    "Future",
    "IntoFuture",
    "Iterator",
    "DoubleEndedIterator",
    "Stream",
    "Fn",
    "FnMut",
    "FnOnce",
];

/// Types that are such traits' objects.
const LAZY_TYPES: [&str; 4] = ["BoxFuture", "LocalBoxFuture", "BoxStream", "LocalBoxStream"];

/// Refuses a function that returns something which runs later. What hides behind a
/// name of its own cannot be seen here.
pub(crate) fn refuse(output: &ReturnType) -> Result<()> {
    let mut search = Search(None);
    search.visit_return_type(output);
    match search.0 {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn ends_with(path: &Path, names: &[&str]) -> bool {
    let last = path.segments.last();
    last.is_some_and(|last| names.iter().any(|name| last.ident == name))
}

struct Search(Option<Error>);

impl Search {
    fn found(&mut self, at: impl quote::ToTokens) {
        let why = "what is returned here may run after the lock is released; collect the \
                   result inside the function, or take the lock where it runs";
        self.0.get_or_insert_with(|| Error::new_spanned(at, why));
    }
}

impl Visit<'_> for Search {
    fn visit_type(&mut self, found: &Type) {
        if let Type::ImplTrait(_) = found {
            return self.found(found);
        }
        if let Type::Path(path) = found {
            if ends_with(&path.path, &LAZY_TYPES) {
                return self.found(found);
            }
        }
        syn::visit::visit_type(self, found);
    }

    fn visit_type_param_bound(&mut self, bound: &TypeParamBound) {
        if let TypeParamBound::Trait(bound) = bound {
            if ends_with(&bound.path, &LAZY_TRAITS) {
                return self.found(bound);
            }
        }
        syn::visit::visit_type_param_bound(self, bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(output: &str) -> bool {
        refuse(&syn::parse_str(output).unwrap()).is_err()
    }

    #[test]
    fn what_runs_later_is_refused() {
        for lazy in [
            "-> impl Future<Output = ()>",
            "-> impl std::iter::Iterator<Item = u32>",
            "-> Result<impl Iterator<Item = u32> + '_, Error>",
            "-> Pin<Box<dyn Future<Output = ()> + Send>>",
            "-> Option<Box<dyn FnOnce() -> u32>>",
            "-> futures::future::BoxFuture<'static, ()>",
            "-> Box<dyn Display + Iterator<Item = u32>>",
        ] {
            assert!(is_refused(lazy), "{lazy}");
        }
        for plain in [
            "",
            "-> Result<Vec<u32>, Error>",
            "-> Box<dyn std::error::Error>",
            "-> fn(u32) -> u32",
        ] {
            assert!(!is_refused(plain), "{plain}");
        }
    }
}
