//! Bytes as decisions.

use serde_json::{Map, Value};

/// Cuts a script into its steps: each is a letter and what follows it, up to a byte that no text has.
pub(super) fn steps(script: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    script
        .split(|byte| *byte == 0xff)
        .filter_map(|step| step.split_first().map(|(letter, rest)| (*letter, rest)))
}

/// What is left of the bytes; when there is nothing left, every decision is the first.
pub(super) struct Food<'a>(pub(super) &'a [u8]);

impl<'a> Food<'a> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn pick<'b, T>(&mut self, from: &'b [T]) -> &'b T {
        &from[usize::from(self.byte()) % from.len()]
    }

    pub(super) fn text(&mut self) -> String {
        let len = usize::from(self.byte() % 64).min(self.0.len());
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    /// Any JSON value, `depth` levels of lists and objects deep at the most.
    pub(super) fn json(&mut self, depth: u8) -> Value {
        const WORDS: &[&str] = &[
            "",
            "5000",
            "RP_MAIN",
            "PORT_1",
            "*",
            "dynamic",
            "static",
            "none",
            "PCMU",
            "user_busy",
            "transfer",
            "phone",
            "controlled",
            "1.1",
            "127.0.0.1",
            "::1",
            "leg-cm1-1-1",
            "AES_CM_128_HMAC_SHA1_80",
            "0x7f",
        ];
        const NUMBERS: &[f64] =
            &[0.0, 1.0, -1.0, 2.0, 0.5, 127.0, 1000.0, 65535.0, 65536.0, 4e9, 1e19, 1e300];
        match self.byte() % if depth == 0 { 6 } else { 8 } {
            0 => Value::Null,
            1 => Value::Bool(self.byte() & 1 == 1),
            2 => Value::from(*self.pick(NUMBERS)),
            3 => Value::from(i64::from(self.byte()) - 128),
            4 => Value::from(*self.pick(WORDS)),
            5 => Value::from(self.text()),
            6 => (0..self.byte() % 4).map(|_| self.json(depth - 1)).collect(),
            _ => {
                let mut map = Map::new();
                for _ in 0..self.byte() % 4 {
                    const KEYS: &[&str] =
                        &["mode", "codecs", "srtp", "ip", "port", "session", "last_seq", "", "k"];
                    let key = self.pick(KEYS);
                    map.insert((*key).to_owned(), self.json(depth - 1));
                }
                Value::Object(map)
            }
        }
    }
}
