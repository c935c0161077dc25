//! `ctimanager hash-password`.

use super::Outcome;
use security::{Secret, password};
use std::io::BufRead;

/// The longest password, in bytes.
const MAX_BYTES: u64 = 1_024;

/// Hashes the first line of a stream; `salt` comes from the system's entropy.
#[must_use]
pub fn hash_line(input: impl BufRead, salt: [u8; 16]) -> Outcome {
    let mut line = String::new();
    let read = input.take(MAX_BYTES + 2).read_line(&mut line);
    let line = Secret::new(line);
    match read {
        Err(error) => Outcome::failed(format!("the password can't be read: {error}")),
        Ok(_) => hash(&Secret::new(line.expose().trim_end_matches(['\r', '\n']).to_owned()), salt),
    }
}

/// Asks twice on a terminal, without an echo.
#[must_use]
pub fn hash_prompted(salt: [u8; 16]) -> Outcome {
    let ask = |prompt: &str| rpassword::prompt_password(prompt).map(Secret::new);
    match (ask("Password: "), ask("Again: ")) {
        (Ok(first), Ok(second)) if first.expose() == second.expose() => hash(&first, salt),
        (Ok(_), Ok(_)) => Outcome::failed("the two passwords differ"),
        (Err(error), _) | (_, Err(error)) => Outcome::failed(format!("the password can't be read: {error}")),
    }
}

fn hash(secret: &Secret, salt: [u8; 16]) -> Outcome {
    if secret.expose().is_empty() {
        return Outcome::failed("the password is empty");
    }
    if secret.expose().len() as u64 > MAX_BYTES {
        return Outcome::failed(format!("the password is longer than {MAX_BYTES} bytes"));
    }
    match password::hash(secret, salt) {
        Ok(hash) => Outcome::good(hash),
        Err(error) => Outcome::failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::hash_line;
    use security::{Secret, password};

    #[test]
    fn the_first_line_is_the_password() {
        for input in ["wonderland\n", "wonderland\r\nmore\n", "wonderland"] {
            let outcome = hash_line(input.as_bytes(), [1; 16]);
            assert_eq!(outcome.code, 0);
            assert!(password::verify(outcome.output.trim_end(), &Secret::new("wonderland".into())));
        }
    }

    #[test]
    fn an_empty_or_endless_password_is_refused() {
        assert_eq!(hash_line(&b"\n"[..], [1; 16]).code, 1);
        assert_eq!(hash_line(&b""[..], [1; 16]).code, 1);
        let endless = hash_line(std::io::BufReader::new(std::io::repeat(b'a')), [1; 16]);
        assert_eq!(endless.code, 1);
        assert!(endless.notes.contains("longer than 1024"), "{endless:?}");
        assert_eq!(hash_line(&b"\xff\n"[..], [1; 16]).code, 1);
    }
}
