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
