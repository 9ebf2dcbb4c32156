//! What goes wrong again and again is said once, and from then on now and then, with how often.

use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of the same text.
const REMIND: Duration = Duration::from_secs(300);
/// Texts that are told apart: two causes that take turns are not news either.
const TEXTS: usize = 8;

/// One thing that is tried again and again.
#[derive(Debug, Default)]
pub struct Trouble {
    said: Vec<Said>,
    /// Failures since it worked last.
    times: u32,
}

#[derive(Debug)]
struct Said {
    text: String,
    at: Instant,
    /// How often since then.
    unsaid: u32,
}

impl Trouble {
    /// It failed for this reason: the line to log, if it is time for one.
    pub fn again(&mut self, text: &str) -> Option<String> {
        self.times = self.times.saturating_add(1);
        let now = Instant::now();
        let Some(said) = self.said.iter_mut().find(|said| said.text == text) else {
            if self.said.len() >= TEXTS {
                self.said.remove(0);
            }
            self.said.push(Said { text: text.to_owned(), at: now, unsaid: 0 });
            return Some(text.to_owned());
        };
        said.unsaid = said.unsaid.saturating_add(1);
        let passed = now.duration_since(said.at);
        if passed < REMIND {
            return None;
        }
        let line = format!("{text} ({} more times in the last {} s)", said.unsaid, passed.as_secs());
        (said.at, said.unsaid) = (now, 0);
        Some(line)
    }

    /// It worked: how often it had failed, if it had.
    pub fn over(&mut self) -> Option<u32> {
        self.said.clear();
        Some(std::mem::take(&mut self.times)).filter(|times| *times > 0)
    }
}
