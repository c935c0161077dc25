//! Where the demo prints: lines in their order, and nobody who draws waits for them.

use std::sync::mpsc::SyncSender;

/// The way to the one who prints.
#[derive(Clone, Debug)]
pub struct Screen {
    lines: SyncSender<String>,
    colour: bool,
}

impl Screen {
    /// What is said goes there; ladders are in colour or not.
    #[must_use]
    pub fn new(lines: SyncSender<String>, colour: bool) -> Self {
        Self { lines, colour }
    }

    /// Says it, however long the printer takes.
    pub fn say(&self, text: impl Into<String>) {
        // A reader who went away (`| head`) is no failure.
        let _ = self.lines.send(text.into());
    }

    /// Says it if the printer is not behind: for those who must not wait.
    pub fn draw(&self, text: String) {
        let _ = self.lines.try_send(text);
    }

    /// Whether ladders are in colour.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.colour
    }
}
