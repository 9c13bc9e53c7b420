//! JSON text → values, quick where texts are long: strings are searched for quotes and escapes by vector instructions.
//! Whatever is unusual (a fault, a number that is no small integer) goes to serde_json, which has the word on it.

use serde_json::{Map, Value};

/// serde_json's own bound.
const DEPTH_MAX: usize = 128;

pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, control: has_control(text.as_bytes()) };
    match reader.value(DEPTH_MAX).filter(|_| reader.only_space_left()) {
        Some(value) => Ok(value),
        None => serde_json::from_str(text),
    }
}

/// Every function gives None where serde_json should look.
struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Somewhere, perhaps between values only: strings are then looked through for them.
    control: bool,
}

/// Without a branch a byte, so that the compiler makes vectors of it.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(u8::MAX, |lowest, byte| lowest.min(*byte)) < 0x20
}

impl Reader<'_> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn only_space_left(&mut self) -> bool {
        self.space();
        self.at == self.bytes.len()
    }

    fn next(&mut self) -> Option<u8> {
        self.space();
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn word(&mut self, rest: &str, value: Value) -> Option<Value> {
        let end = self.at + rest.len();
        (self.bytes.get(self.at..end)? == rest.as_bytes()).then(|| self.at = end)?;
        Some(value)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        match self.next()? {
            b'"' => self.string().map(Value::String),
            b'{' => self.object(depth.checked_sub(1)?),
            b'[' => self.array(depth.checked_sub(1)?),
            b't' => self.word("rue", Value::Bool(true)),
            b'f' => self.word("alse", Value::Bool(false)),
            b'n' => self.word("ull", Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value> {
        let begin = self.at - 1;
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) {
            self.at += 1;
        }
        serde_json::from_str(&self.text[begin..self.at]).ok()
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        let mut items = Vec::new();
        self.space();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Some(Value::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            match self.next()? {
                b',' => {}
                b']' => return Some(Value::Array(items)),
                _ => return None,
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        let mut members = Map::new();
        self.space();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Some(Value::Object(members));
        }
        loop {
            self.expect(b'"')?;
            let name = self.string()?;
            self.expect(b':')?;
            members.insert(name, self.value(depth)?);
            match self.next()? {
                b',' => {}
                b'}' => return Some(Value::Object(members)),
                _ => return None,
            }
        }
    }

    /// Behind the opening quote.
    fn string(&mut self) -> Option<String> {
        let end = self.at + memchr::memchr2(b'"', b'\\', &self.bytes[self.at..])?;
        if self.bytes[end] == b'"' {
            let text = self.plain(end)?.to_string();
            self.at = end + 1;
            return Some(text);
        }
        // Room for all of it: the closing quote is the next one without a backslash in front, nearly always.
        let mut out = String::with_capacity(self.length_guess(end));
        loop {
            let stop = self.at + memchr::memchr2(b'"', b'\\', &self.bytes[self.at..])?;
            out.push_str(self.plain(stop)?);
            self.at = stop + 1;
            if self.bytes[stop] == b'"' {
                return Some(out);
            }
            self.escape(&mut out)?;
        }
    }

    /// Bytes to the string's end, or somewhat less.
    fn length_guess(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(quote) = memchr::memchr(b'"', &self.bytes[at..]) {
            at += quote + 1;
            if self.bytes[at - 2] != b'\\' {
                break;
            }
        }
        at - self.at
    }

    /// Text up to `end`, which holds neither quotes nor escapes.
    fn plain(&self, end: usize) -> Option<&str> {
        (!self.control || !has_control(&self.bytes[self.at..end])).then(|| &self.text[self.at..end])
    }

    fn escape(&mut self, out: &mut String) -> Option<()> {
        let code = *self.bytes.get(self.at)?;
        self.at += 1;
        out.push(match code {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'"' | b'\\' | b'/' => code as char,
            b'u' => self.unicode()?,
            _ => return None,
        });
        Some(())
    }

    fn unicode(&mut self) -> Option<char> {
        let high = self.four_digits()?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high); // None for a lone low surrogate
        }
        self.word("\\u", Value::Null)?;
        let low = self.four_digits()?;
        (0xDC00..0xE000).contains(&low).then(|| char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)))?
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| Some(code * 16 + (*digit as char).to_digit(16)?))
    }
}
