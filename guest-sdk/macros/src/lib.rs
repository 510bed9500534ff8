//! The attribute macros of `clasp-guest`. Use them through that crate.

mod arguments;
mod lazy;

use arguments::{Arguments, Failure};
use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::{quote, quote_spanned};
use syn::{
    Error, Expr, Ident, ItemFn, Result, ReturnType, parse_macro_input, parse_quote,
    spanned::Spanned,
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
/// The path is an expression, which may use the function's arguments and `self`:
/// `#[interprocess_locked(self.path())]`. The lock is opened at each call. These may
/// follow:
///
/// - `timeout = "10s"`: how long to wait; a number with a unit, such as `250ms`, `10s`
///   or `1m 30s`, or an expression of type `Duration`.
/// - `map_err = |error| error.to_string()`: turns the lock's error into one that the
///   function's `?` takes.
/// - `panic`: panics if the lock cannot be taken, for functions that return no
///   `Result`.
/// - `crate = path`: where `clasp_guest` is, if it was renamed or is re-exported.
///
/// Without `panic`, an error of the lock is returned as with `?`. The function then has
/// to return a `Result`, or an alias of one, whose error type can be made from
/// `clasp_guest::Error`.
///
/// An `async fn` awaits the lock of the module `aio`, which needs the feature `p3` of
/// `clasp-guest`. It holds the lock while it waits for something else, and dropping its future
/// releases the lock.
///
/// The lock is released when the function returns. A function that returns an `impl
/// Future` or an `impl Iterator`, whose code would run after that, is a compile error. A
/// lazy type that has a name, such as `std::fs::ReadDir` or a `struct` that implements
/// `Future`, is not detected: collect or await it inside the function.
#[proc_macro_attribute]
pub fn interprocess_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    between_processes(arguments, function, "InterProcessLock", "acquire")
}

/// Runs a function while a permit of the semaphore of a path is held, so that at most so many
/// run at a time, in all processes. `permits` is required; see `interprocess_locked` for the
/// other arguments.
///
/// ```no_run
/// use clasp_guest::interprocess_limited;
///
/// #[interprocess_limited("data/render.sem", permits = 4, timeout = "10s")]
/// fn render(text: &str) -> std::io::Result<()> {
///     std::fs::write("data/page", text)
/// }
/// ```
#[proc_macro_attribute]
pub fn interprocess_limited(arguments: TokenStream, function: TokenStream) -> TokenStream {
    between_processes(arguments, function, SEMAPHORE, "acquire")
}

/// Runs a function under a shared lock of a path. See
/// `interprocess_locked` for the arguments.
#[proc_macro_attribute]
pub fn interprocess_read_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    between_processes(arguments, function, "InterProcessReaderWriterLock", "read")
}

/// Runs a function under the exclusive side of a reader-writer lock of a path.
/// See `interprocess_locked` for the arguments.
#[proc_macro_attribute]
pub fn interprocess_write_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    between_processes(arguments, function, "InterProcessReaderWriterLock", "write")
}

/// Runs an asynchronous method while its task holds the `ReaderWriterLock` in
/// `self.lock` for reading. Another lock is named by an expression:
/// `#[read_locked(self.cache_lock)]`.
///
/// ```
/// use clasp_guest::{ReaderWriterLock, read_locked};
/// use std::cell::Cell;
///
/// struct Counter { lock: ReaderWriterLock, count: Cell<u32>, seen: Cell<u32> }
///
/// impl Counter {
///     #[read_locked]
///     async fn is_settled(&self) -> bool {
///         self.count.get() == self.seen.get()
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn read_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    between_tasks(arguments, function, "read")
}

/// Runs an asynchronous method while its task holds the `ReaderWriterLock` in
/// `self.lock`, or in the expression given, for writing. See `read_locked`.
///
/// A method with `&mut self` has no need of it: no other task can be in such a method.
#[proc_macro_attribute]
pub fn write_locked(arguments: TokenStream, function: TokenStream) -> TokenStream {
    between_tasks(arguments, function, "write")
}

const SEMAPHORE: &str = "InterProcessSemaphore";

fn between_processes(
    arguments: TokenStream,
    function: TokenStream,
    lock: &str,
    acquire: &str,
) -> TokenStream {
    let arguments = parse_macro_input!(arguments);
    let function = parse_macro_input!(function);
    let expanded = under_process_lock(arguments, function, lock, acquire);
    expanded.unwrap_or_else(Error::into_compile_error).into()
}

fn under_process_lock(
    arguments: Arguments,
    mut function: ItemFn,
    lock: &str,
    acquire: &str,
) -> Result<Tokens> {
    lazy::refuse(&function.sig.output)?;
    let Arguments {
        path,
        permits,
        timeout,
        failure,
        krate,
    } = arguments;
    let here = Span::call_site();
    let permits = match (permits, lock == SEMAPHORE) {
        (None, false) => None,
        (Some(permits), true) => Some(quote!(, #permits)),
        (None, true) => {
            let why = "say how many may run at a time, such as `permits = 4`";
            return Err(Error::new_spanned(path, why));
        }
        (Some(permits), false) => {
            let why = "a lock has no permits; `interprocess_limited` takes those of a semaphore";
            return Err(Error::new_spanned(permits, why));
        }
    };
    let lock = Ident::new(lock, here);
    let method = match timeout {
        Some(_) => format!("{acquire}_timeout"),
        None => acquire.to_owned(),
    };
    let method = Ident::new(&method, here);
    // Names that the function's own expressions do not see.
    let hidden = |name| Ident::new(name, Span::mixed_site());
    let (opened, patience) = (hidden("opened"), hidden("patience"));
    let (before, argument) = match timeout {
        Some(timeout) => (Some(quote!(let #patience = #timeout;)), Some(&patience)),
        None => (None, None),
    };
    let guard = match function.sig.asyncness {
        None => {
            quote!(#krate::#lock::new(#path #permits).and_then(|#opened| #opened.#method(#argument)))
        }
        Some(_) => quote!(match #krate::aio::#lock::new(#path #permits).await {
            ::core::result::Result::Ok(#opened) => #opened.#method(#argument).await,
            ::core::result::Result::Err(error) => ::core::result::Result::Err(error),
        }),
    };
    let guard = match failure {
        Failure::Panic => quote!(#guard.unwrap_or_else(|error| ::core::panic!("{error}"))),
        Failure::Return(map) => {
            let ReturnType::Type(_, returned) = &function.sig.output else {
                return Err(Error::new(
                    function.sig.fn_token.span(),
                    "the function returns nothing, so it could not say that the lock was not \
                     taken; return a `Result`, or add `panic` to the attribute's arguments",
                ));
            };
            let map = map.map(|map| quote!(.map_err(#map)));
            // What `?` has against the type is told where the type is.
            quote_spanned!(returned.span()=> #guard #map?)
        }
    };
    let block = &function.block;
    function.block = parse_quote!({
        #before
        let _clasp_guard = #guard;
        #block
    });
    Ok(quote!(#function))
}

fn between_tasks(arguments: TokenStream, function: TokenStream, side: &str) -> TokenStream {
    let lock: Expr = if arguments.is_empty() {
        parse_quote!(self.lock)
    } else {
        parse_macro_input!(arguments)
    };
    let expanded = under_task_lock(lock, parse_macro_input!(function), side);
    expanded.unwrap_or_else(Error::into_compile_error).into()
}

fn under_task_lock(lock: Expr, mut function: ItemFn, side: &str) -> Result<Tokens> {
    if function.sig.asyncness.is_none() {
        return Err(Error::new_spanned(
            function.sig.fn_token,
            "only an asynchronous function can wait for other tasks; make it `async fn`",
        ));
    }
    lazy::refuse(&function.sig.output)?;
    let side = Ident::new(side, Span::call_site());
    let block = &function.block;
    function.block = parse_quote!({
        let _clasp_guard = (#lock).#side().await;
        #block
    });
    Ok(quote!(#function))
}
