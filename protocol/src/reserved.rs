//! Names of params that are words of a language that clients are written in: a program that is made from the OpenRPC
//! document can't have them as names of its own. Each has aliases, which a server takes as well.

/// A param's name in the protocol, and how else it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The protocol's own name.
    pub name: &'static str,
    /// What the OpenRPC document calls it: a name of the protocol's own, or the first alias. Some generators take an
    /// underscore at the end for none, so that `for_` would be `for` again.
    pub document: &'static str,
    /// All other names.
    pub aliases: &'static [&'static str],
}

/// All of them, of all methods.
pub const RESERVED: &[Reserved] = &[
    Reserved { name: "for", document: "purpose", aliases: &["purpose", "for_"] },
    Reserved { name: "with", document: "together_with", aliases: &["together_with", "with_"] },
    // A word of Python and TypeScript in some places only: a param may be called so.
    Reserved { name: "type", document: "type", aliases: &["type_"] },
];

/// The other names of a param; `None` = it needs none.
#[must_use]
pub fn reserved(name: &str) -> Option<&'static Reserved> {
    RESERVED.iter().find(|reserved| reserved.name == name)
}

/// Words that can't be names in Python 3 or TypeScript.
#[cfg(test)]
pub(crate) const WORDS: &[&str] = &[
    // Python.
    "False",
    "None",
    "True",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "global",
    "if",
    "import",
    "in",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "while",
    "with",
    "yield",
    // TypeScript, strict.
    "arguments",
    "case",
    "catch",
    "const",
    "debugger",
    "default",
    "delete",
    "do",
    "enum",
    "eval",
    "export",
    "extends",
    "false",
    "function",
    "implements",
    "instanceof",
    "interface",
    "let",
    "new",
    "null",
    "package",
    "private",
    "protected",
    "public",
    "static",
    "super",
    "switch",
    "this",
    "throw",
    "true",
    "typeof",
    "var",
    "void",
];

#[cfg(test)]
mod tests {
    use crate::methods::Method;
    use crate::{CtiError, Symbol};
    use serde_json::{Value, json};

    fn read(method: &str, params: &Value) -> Result<Method, CtiError> {
        Method::parse(method, Some(&crate::rpc::raw(params)))
    }

    #[test]
    fn a_param_is_the_same_by_each_of_its_names() {
        for (method, rest, name, value) in [
            ("call.consult", json!({"leg": "l1", "destination": "2"}), "for", json!("transfer")),
            ("call.transfer", json!({"leg": "l1"}), "with", json!("l2")),
            ("call.conference", json!({"leg": "l1"}), "with", json!(["l2", "l3"])),
            ("provider.devices", json!({}), "type", json!("phone")),
        ] {
            let with = |names: &[(&str, &Value)]| {
                let mut params = rest.clone();
                names.iter().for_each(|(name, value)| params[*name] = (*value).clone());
                params
            };
            let as_ever = read(method, &with(&[(name, &value)]));
            assert!(as_ever.is_ok(), "{as_ever:?}");
            for alias in super::reserved(name).expect("it is one").aliases {
                assert_eq!(read(method, &with(&[(alias, &value)])), as_ever, "{alias}");
                // A `null` is nothing.
                assert_eq!(read(method, &with(&[(alias, &value), (name, &Value::Null)])), as_ever, "{alias}");
                assert_eq!(read(method, &with(&[(alias, &Value::Null), (name, &value)])), as_ever, "{alias}");
                let twice = read(method, &with(&[(alias, &value), (name, &value)])).expect_err("two of them");
                assert_eq!(
                    (twice.symbol, twice.data.field.as_deref()),
                    (Symbol::InvalidParams, Some(*alias))
                );
                let wrong = read(method, &with(&[(alias, &json!(7.5))])).expect_err("no such value");
                assert_eq!(
                    wrong.data.field.as_deref(),
                    Some(*alias),
                    "what is wrong is called as it was written"
                );
            }
            let missing =
                read("call.consult", &json!({"leg": "l1", "destination": "2"})).expect_err("for what?");
            assert_eq!(missing.data.field.as_deref(), Some("for"));
        }
    }
}
