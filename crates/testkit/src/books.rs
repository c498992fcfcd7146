/// Asserts that each message which a tree has let in is accounted for, at each place and in the whole.
///
/// For a moment at which nothing is on its way: after a shutdown, or when all that was sent has been answered. It takes
/// a reference to a `Scope` of `perennial-lifecycle`; a macro, since this crate knows none of the others.
///
/// # Panics
///
/// Names each place whose books do not add up, with its figures.
#[macro_export]
macro_rules! assert_books_balance {
    ($scope:expr) => {{
        let scope = $scope;
        let mut wrong = ::std::vec::Vec::new();
        let mut open = ::std::vec![::std::clone::Clone::clone(scope.root())];
        while let ::std::option::Option::Some(node) = open.pop() {
            if let ::std::option::Option::Some(figures) = node.figures()
                && !figures.is_balanced()
            {
                wrong.push(::std::format!("\n{}: {figures:?}", node.path()));
            }
            open.extend(node.children());
        }
        let books = scope.books();
        if !books.is_balanced() {
            // By itself: the books of places that are gone.
            wrong.push(::std::format!("\nin all: {books:?}"));
        }
        ::std::assert!(
            wrong.is_empty(),
            "books that do not add up:{}",
            wrong.concat()
        );
    }};
}
