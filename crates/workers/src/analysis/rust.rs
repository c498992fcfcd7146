use tree_sitter::Node;

use super::DefinitionKind;
use super::walk::{Context, Found, Meaning, Syntax};

pub(super) const SYNTAX: Syntax = Syntax {
    grammar: || tree_sitter_rust::LANGUAGE.into(),
    accepts: |_| true,
    comments: &["line_comment", "block_comment", "shebang"],
    decisions: &["while_expression", "for_expression"],
    // `if` is also the guard of a match arm.
    decision_tokens: &["if", "&&", "||"],
    choices: &["match_expression"],
    handlers: &[],
    alternatives: &["match_arm"],
    unparsed: &["token_tree"],
    inspected: &[
        "function_item",
        "struct_item",
        "enum_item",
        "union_item",
        "trait_item",
        "impl_item",
        "mod_item",
        "macro_definition",
        "const_item",
        "static_item",
        "type_item",
        "let_declaration",
    ],
    inspect,
};

fn inspect(node: Node<'_>, context: &mut Context<'_>) -> Meaning {
    let kind = match node.kind() {
        "let_declaration" => {
            let otherwise = node.child_by_field_name("alternative");
            return Meaning::Decisions(usize::from(otherwise.is_some()));
        }
        "impl_item" => return implementation(node, context),
        // The content of `mod name;` is another file's.
        "mod_item" if node.child_by_field_name("body").is_none() => return Meaning::Nothing,
        "function_item" => match context.enclosing {
            Some(outer) if matches!(outer.kind, DefinitionKind::Impl | DefinitionKind::Trait) => {
                DefinitionKind::Method
            }
            _ => DefinitionKind::Function,
        },
        "struct_item" => DefinitionKind::Struct,
        "enum_item" => DefinitionKind::Enum,
        "union_item" => DefinitionKind::Union,
        "trait_item" => DefinitionKind::Trait,
        "mod_item" => DefinitionKind::Module,
        "macro_definition" => DefinitionKind::Macro,
        "const_item" | "static_item" => DefinitionKind::Constant,
        "type_item" => DefinitionKind::TypeAlias,
        _ => return Meaning::Nothing,
    };
    match node.child_by_field_name("name") {
        Some(name) => Found::new(kind, context.name(name)).into(),
        None => Meaning::Nothing,
    }
}

fn implementation(node: Node<'_>, context: &Context<'_>) -> Meaning {
    let Some(target) = node.child_by_field_name("type") else {
        return Meaning::Nothing;
    };
    let target = context.name(target);
    let name = match node.child_by_field_name("trait") {
        Some(of) => format!("{} for {target}", context.name(of)),
        None => target,
    };
    Found::new(DefinitionKind::Impl, name).into()
}
