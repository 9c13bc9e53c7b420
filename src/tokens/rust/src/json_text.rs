//! JSON text → values, quick where texts are long: strings are copied and searched for quotes and escapes 16 bytes at a
//! time.
//! Whatever is unusual (a fault, a number that is no small integer) goes to serde_json, which has the word on it.

use serde_json::{Map, Value};

/// serde_json's own bound.
const DEPTH_MAX: usize = 128;

pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0 };
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
}

const BLOCK: usize = 16;

/// Where the first quote, backslash or control character of a block is; BLOCK when there is none.
#[cfg(target_arch = "x86_64")]
fn first_stop(block: &[u8; BLOCK]) -> usize {
    use std::arch::x86_64::*;
    // SSE2 is part of x86-64, and a block is 16 bytes.
    let stops = unsafe {
        let bytes = _mm_loadu_si128(block.as_ptr().cast());
        let last_control = _mm_set1_epi8(0x1f);
        let control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, last_control), last_control);
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        _mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash)))
    };
    ((stops | 1 << BLOCK) as u32).trailing_zeros() as usize
}

#[cfg(not(target_arch = "x86_64"))]
fn first_stop(block: &[u8; BLOCK]) -> usize {
    block.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(BLOCK)
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
        let mut out = Vec::with_capacity(self.length_guess());
        loop {
            let stop = self.copy_to_stop(&mut out)?;
            self.at += 1;
            match stop {
                // Whole stretches of a str, between ASCII bytes, and characters.
                b'"' => return Some(unsafe { String::from_utf8_unchecked(out) }),
                b'\\' => self.escape(&mut out)?,
                _ => return None,
            }
        }
    }

    /// Appends what stands before the next quote, backslash or control character, and gives that one.
    fn copy_to_stop(&mut self, out: &mut Vec<u8>) -> Option<u8> {
        while let Some(block) = self.bytes[self.at..].first_chunk::<BLOCK>() {
            out.extend_from_slice(block);
            let stop = first_stop(block);
            self.at += stop;
            if stop < BLOCK {
                out.truncate(out.len() - (BLOCK - stop));
                return Some(block[stop]);
            }
        }
        loop {
            match *self.bytes.get(self.at)? {
                stop @ (b'"' | b'\\' | 0..=0x1f) => return Some(stop),
                byte => out.push(byte),
            }
            self.at += 1;
        }
    }

    /// Bytes to the string's end, or somewhat less: the closing quote is the next one without a backslash in front, nearly
    /// always.
    fn length_guess(&self) -> usize {
        let mut at = self.at;
        while let Some(quote) = memchr::memchr(b'"', &self.bytes[at..]) {
            at += quote + 1;
            if self.bytes[at - 2] != b'\\' {
                break;
            }
        }
        at - self.at + BLOCK
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let code = *self.bytes.get(self.at)?;
        self.at += 1;
        out.push(match code {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 0x8,
            b'f' => 0xc,
            b'"' | b'\\' | b'/' => code,
            b'u' => {
                let c = self.unicode()?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
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
