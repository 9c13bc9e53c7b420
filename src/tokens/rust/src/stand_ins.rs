//! Long contents rendered without being touched: a template sees `head + marker + tail` in their place, and the middle
//! is put in afterwards. `opaque` says for which templates and contents that is right.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use serde_json::Value;

use crate::opaque::{Rules, EDGE_BYTES};

/// The marker's frame. Whatever quotes or escapes a text changes these, so that a marker that was not just passed on is
/// known by its missing frame.
const OPEN: char = '\u{1}';
const CLOSE: char = '\u{2}';
/// What a rendering may repeat contents, in all: a template that does so more often pays for it in steps, which are bounded.
const REPEATS_MAX: usize = 4;

/// What a marker is known by. Nobody outside can guess it, so no text of a client's looks like one.
pub struct Secret(String);

impl Secret {
    pub fn new() -> Secret {
        Secret(format!("{:016x}", RandomState::new().hash_one("marker")))
    }

    pub fn is_in(&self, text: &str) -> bool {
        memchr::memmem::find(text.as_bytes(), self.0.as_bytes()).is_some()
    }
}

/// Contents taken out of messages.
pub struct StandIns {
    /// Message, its content, and where its middle begins and ends.
    taken: Vec<(usize, String, usize, usize)>,
}

impl StandIns {
    pub fn take(messages: &mut [Value], rules: &Rules, secret: &Secret) -> StandIns {
        let mut taken = Vec::new();
        for (i, message) in messages.iter_mut().enumerate() {
            let Some(Value::String(content)) = message.get_mut("content").filter(|content| fits(content, rules)) else {
                continue;
            };
            let begin = (0..=EDGE_BYTES).rev().find(|at| content.is_char_boundary(*at)).unwrap_or(0);
            let last = content.len() - EDGE_BYTES;
            let end = (last..=content.len()).find(|at| content.is_char_boundary(*at)).unwrap_or(content.len());
            let number = taken.len();
            let stand_in = format!("{}{OPEN}{}{number}{CLOSE}{}", &content[..begin], secret.0, &content[end..]);
            taken.push((i, std::mem::replace(content, stand_in), begin, end));
        }
        StandIns { taken }
    }

    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// The rendering with every middle in its place; None when a marker was changed, or for too many of them.
    pub fn put_in(&self, rendered: &str, secret: &Secret) -> Option<String> {
        let mut spans = Vec::with_capacity(self.taken.len());
        let mut size = rendered.len();
        let size_max = size + REPEATS_MAX * self.taken.iter().map(|(_, content, _, _)| content.len()).sum::<usize>();
        for at in memchr::memmem::find_iter(rendered.as_bytes(), secret.0.as_bytes()) {
            let begin = rendered[..at].strip_suffix(OPEN)?.len();
            let rest = &rendered[at + secret.0.len()..];
            let (number, _) = rest.split_once(CLOSE)?;
            let (_, content, from, to) = self.taken.get(number.parse::<usize>().ok()?)?;
            let middle = &content[*from..*to];
            spans.push((begin, at + secret.0.len() + number.len() + CLOSE.len_utf8(), middle));
            size += middle.len();
            if size > size_max {
                return None;
            }
        }
        let mut out = String::with_capacity(size);
        let mut done = 0;
        for (begin, end, middle) in spans {
            out.push_str(&rendered[done..begin]);
            out.push_str(middle);
            done = end;
        }
        out.push_str(&rendered[done..]);
        Some(out)
    }

    /// Back into the messages.
    pub fn give_back(self, messages: &mut [Value]) {
        for (i, content, _, _) in self.taken {
            messages[i]["content"] = Value::String(content);
        }
    }
}

fn fits(content: &Value, rules: &Rules) -> bool {
    content.as_str().is_some_and(|content| rules.fits(content))
}
