use serde_json::Value;

/// Says whether `seen` is one of the orders that `expected` admits.
///
/// A `parallel` element stands for its inner sequences interleaved in any way; each keeps its own order,
/// and all of it lies between what comes before and after.
pub(crate) fn events_agree(expected: &[Value], seen: &[Value]) -> bool {
    let mut rest = seen;
    for event in expected {
        let Some(lists) = event.get("parallel").and_then(Value::as_array) else {
            match rest.split_first() {
                Some((first, behind)) if first == event => rest = behind,
                _ => return false,
            }
            continue;
        };
        let lists: Vec<&Vec<Value>> = lists.iter().filter_map(Value::as_array).collect();
        let count = lists.iter().map(|list| list.len()).sum();
        let Some((block, behind)) = rest.split_at_checked(count) else {
            return false;
        };
        for list in lists {
            let subsequence: Vec<&Value> = block.iter().filter(|it| list.contains(it)).collect();
            if !subsequence.into_iter().eq(list) {
                return false;
            }
        }
        rest = behind;
    }
    rest.is_empty()
}

/// Says whether both hold the same values, whatever their order.
pub(crate) fn multisets_agree(expected: &[Value], seen: &[Value]) -> bool {
    let mut rest: Vec<&Value> = seen.iter().collect();
    for value in expected {
        match rest.iter().position(|it| *it == value) {
            Some(found) => rest.swap_remove(found),
            None => return false,
        };
    }
    rest.is_empty()
}

/// Sorts every list of dynamic children, whose order means nothing.
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(canonical).collect();
            if list
                .iter()
                .any(|it| it.get("id").is_some_and(Value::is_null))
            {
                list.sort_by_cached_key(Value::to_string);
            }
            Value::Array(list)
        }
        Value::Object(map) => {
            let fields = map
                .iter()
                .map(|(key, value)| (key.clone(), canonical(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(value: &Value) -> &[Value] {
        value.as_array().unwrap()
    }

    #[test]
    fn sequences_beside_each_other_interleave_but_keep_their_order() {
        let expected = json!(["x", { "parallel": [["a", "b"], ["c"]] }, "y"]);
        for seen in [
            json!(["x", "a", "b", "c", "y"]),
            json!(["x", "a", "c", "b", "y"]),
            json!(["x", "c", "a", "b", "y"]),
        ] {
            assert!(events_agree(list(&expected), list(&seen)), "{seen}");
        }
        for seen in [
            json!(["x", "b", "a", "c", "y"]),
            json!(["a", "x", "b", "c", "y"]),
            json!(["x", "a", "b", "y", "c"]),
            json!(["x", "a", "b", "c"]),
            json!(["x", "a", "b", "c", "y", "z"]),
            json!(["x", "a", "b", "d", "y"]),
            json!(["x", "a", "a", "b", "y"]),
        ] {
            assert!(!events_agree(list(&expected), list(&seen)), "{seen}");
        }
    }

    #[test]
    fn multisets_count() {
        assert!(multisets_agree(
            list(&json!([1, 2, 1])),
            list(&json!([1, 1, 2]))
        ));
        assert!(!multisets_agree(
            list(&json!([1, 2, 2])),
            list(&json!([1, 1, 2]))
        ));
    }
}
