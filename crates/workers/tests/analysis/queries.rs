//! The functions of every sample, as a tree-sitter query finds them.

use perennial_workers::analysis::Language;
use tree_sitter::{Node, Parser, Query, QueryCursor, StreamingIterator};

use crate::{SAMPLES, analyze};

fn grammar(language: Language) -> tree_sitter::Language {
    match language {
        Language::Rust => tree_sitter_rust::LANGUAGE.into(),
        Language::Elixir => tree_sitter_elixir::LANGUAGE.into(),
        Language::Erlang => tree_sitter_erlang::LANGUAGE.into(),
        Language::Python => tree_sitter_python::LANGUAGE.into(),
        Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
    }
}

fn query(language: Language) -> &'static str {
    match language {
        Language::Rust => "(function_item) @function",
        Language::Python => "(function_definition) @function",
        Language::JavaScript => {
            "[(function_declaration) (generator_function_declaration) (method_definition)] @function
             (function_expression name: (_)) @function
             (generator_function name: (_)) @function
             (variable_declarator value: [(arrow_function) (function_expression) (generator_function)] @function)
             (assignment_expression right: [(arrow_function) (function_expression) (generator_function)] @function)
             (pair value: [(arrow_function) (function_expression) (generator_function)] @function)
             (field_definition value: [(arrow_function) (function_expression) (generator_function)] @function)
             (export_statement value: [(arrow_function) (function_expression) (generator_function)] @function)"
        }
        Language::Erlang => {
            "(fun_decl (function_clause name: (_) @name args: (_) @arguments)) @function"
        }
        Language::Elixir => {
            r#"(call target: (identifier) @_def
                 (arguments . [
                   (identifier) @name
                   (call target: (identifier) @name (arguments) @arguments)
                   (binary_operator left: (call target: (identifier) @name (arguments) @arguments) operator: "when")
                   (binary_operator left: (identifier) operator: "<~>" @name)
                 ])
                 (#any-of? @_def "def" "defp" "defdelegate")) @function"#
        }
    }
}

/// The lines on which functions begin; clauses of one function begin once.
fn lines(language: Language, source: &str) -> Vec<usize> {
    let grammar = grammar(language);
    let mut parser = Parser::new();
    parser.set_language(&grammar).expect("the grammar loads");
    let tree = parser
        .parse(source, None)
        .expect("nothing stops the parser");
    let query = Query::new(&grammar, query(language)).expect("the query fits the grammar");
    let capture = |name: &str| query.capture_index_for_name(name);
    let mut cursor = QueryCursor::new();
    let mut matches = cursor.matches(&query, tree.root_node(), source.as_bytes());
    let mut functions = Vec::new();
    while let Some(found) = matches.next() {
        let node = |name: &str| -> Option<Node<'_>> {
            found.nodes_for_capture_index(capture(name)?).next()
        };
        let function = node("function").expect("every match has a function");
        let clause = node("name").map(|name| {
            let arity = node("arguments").map_or(0, |arguments| arguments.named_child_count());
            let parent = function.parent().map(|parent| parent.id());
            (&source[name.byte_range()], arity, parent)
        });
        functions.push((
            function.start_byte(),
            function.start_position().row + 1,
            clause,
        ));
    }
    functions.sort();
    // Two patterns may find one function.
    functions.dedup_by_key(|(start, _, _)| *start);
    functions.dedup_by(|(_, _, clause), (_, _, before)| clause.is_some() && clause == before);
    functions.into_iter().map(|(_, line, _)| line).collect()
}

#[test]
fn functions_are_those_of_a_query() {
    for (language, name, source) in SAMPLES {
        let found: Vec<_> = analyze(language, source)
            .functions()
            .map(|function| function.start_line as usize)
            .collect();
        assert!(!found.is_empty());
        assert_eq!(found, lines(language, source), "{name}");
    }
}
