//! The fast encoder, `fastokens`, and the proof that it is one with `tokenizers` for a given file.

use std::panic::{catch_unwind, AssertUnwindSafe};

use fastokens::AddedTokenPolicy;
use tokenizers::Tokenizer;

/// Added tokens and vocabulary entries that the check encodes, at most.
const ADDED_TOKENS_MAX: usize = 64;
const ENTRIES_MAX: usize = 4_000;
const ENTRIES_A_TEXT: usize = 40;

pub struct FastEncoder {
    inner: fastokens::Tokenizer,
}

/// Keeps fastokens from starting a pool of threads: one prompt, one thread. It reads this variable once, when first
/// used; this runs before main, where no other thread can read the environment. A user's own value stays.
extern "C" fn one_thread_a_prompt() {
    const THREADS: &str = "FASTOKENS_BPE_THREADS";
    if std::env::var_os(THREADS).is_none() {
        std::env::set_var(THREADS, "1");
    }
}

#[used]
#[link_section = ".init_array"]
static BEFORE_MAIN: extern "C" fn() = one_thread_a_prompt;

impl FastEncoder {
    /// The encoder, or why there is none for this tokenizer.
    pub fn load(file: &[u8], reference: &Tokenizer) -> Result<FastEncoder, String> {
        // The linker keeps what is referred to.
        let before_main: extern "C" fn() = unsafe { std::ptr::read_volatile(&BEFORE_MAIN) };
        std::hint::black_box(before_main);
        if reference.get_added_tokens_decoder().values().any(|token| token.single_word) {
            return Err("an added token matches whole words only".to_string());
        }
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            let json = serde_json::from_slice(file).map_err(|error| error.to_string())?;
            let mut inner = fastokens::Tokenizer::from_json(json).map_err(|error| error.to_string())?;
            inner.set_truncation(None);
            inner.set_padding(None);
            // Reuse is the prompt room's, whose bounds and keys are known.
            inner.enable_segment_cache(0);
            Ok::<_, String>(FastEncoder { inner })
        }));
        let encoder = match loaded {
            Ok(Ok(encoder)) => encoder,
            Ok(Err(why)) => return Err(format!("fastokens does not support it: {why}")),
            Err(_) => return Err("fastokens gave up on it".to_string()),
        };
        encoder.check(reference)?;
        Ok(encoder)
    }

    /// None when it cannot: the reference then has the word.
    pub fn encode(&self, text: &str, add_special: bool) -> Option<Vec<u32>> {
        catch_unwind(AssertUnwindSafe(|| {
            self.inner.encode_unpadded::<Vec<u32>>(text, add_special, AddedTokenPolicy::All).ok()
        }))
        .ok()
        .flatten()
    }

    /// Ids stand for the text's own bytes: the normalizer would change nothing.
    pub fn takes_as_is(&self, text: &str) -> bool {
        self.inner.normalizer().is_none_or(|normalizer| match normalizer {
            fastokens::Normalizer::Nfc(_) if is_nfc_at_a_glance(text.as_bytes()) => true,
            _ => normalizer.is_identity_on(text),
        })
    }

    fn check(&self, reference: &Tokenizer) -> Result<(), String> {
        for (name, text) in SAMPLES {
            self.compare(reference, name, text)?;
            // Bare, repeated, and run together without white space: other ways through the encoder.
            self.compare(reference, name, &text.repeat(3))?;
            self.compare(reference, name, &text.replace(char::is_whitespace, ""))?;
        }
        let whole: String = SAMPLES.iter().map(|(_, text)| *text).collect();
        self.compare(reference, "all samples together", &whole)?;
        self.check_added_tokens(reference)?;
        self.check_vocabulary(reference)
    }

    fn check_added_tokens(&self, reference: &Tokenizer) -> Result<(), String> {
        let mut added: Vec<_> = reference.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        let step = added.len().div_ceil(ADDED_TOKENS_MAX).max(1);
        for (_, token) in added.iter().step_by(step) {
            let name = &token.content;
            let shorter: String = name.chars().take(name.chars().count().saturating_sub(1)).collect();
            let text = format!(
                "{name}a {name} b\n{name}\n{name}{name}x{name}y  {name}  z{shorter} {} e\u{301}{name}\u{301} {shorter}{name}",
                name.to_uppercase()
            );
            self.compare(reference, "an added token", &text)?;
        }
        Ok(())
    }

    /// Texts made of the vocabulary's own entries reach merges that no written sample does.
    fn check_vocabulary(&self, reference: &Tokenizer) -> Result<(), String> {
        let size = reference.get_vocab_size(false) as u32;
        let step = (size as usize).div_ceil(ENTRIES_MAX).max(1);
        let ids: Vec<u32> = (0..size).step_by(step).collect();
        for some in ids.chunks(ENTRIES_A_TEXT) {
            let mut text = String::new();
            for id in some {
                text.push_str(&reference.decode(&[*id], false).unwrap_or_default());
            }
            self.compare(reference, "texts of its own vocabulary", &text)?;
        }
        Ok(())
    }

    fn compare(&self, reference: &Tokenizer, what: &str, text: &str) -> Result<(), String> {
        for add_special in [false, true] {
            let expected = reference.encode_fast(text, add_special).map(|encoding| encoding.get_ids().to_vec()).ok();
            if expected != self.encode(text, add_special) {
                return Err(format!("fastokens gives other ids than tokenizers for {what}"));
            }
        }
        Ok(())
    }
}

/// Characters below U+0300 neither combine with what stands before them nor change by themselves, and neither do U+2002 to
/// U+203F (dashes, quotation marks). Mostly there are no others in texts of Latin letters, and this is quicker than to ask
/// the tables.
fn is_nfc_at_a_glance(bytes: &[u8]) -> bool {
    const FIRST_OF_U0300: u8 = 0xcc;
    let mut at = 0;
    while let Some(some) = bytes[at..].first_chunk::<64>() {
        if some.iter().fold(0, |most, byte| most.max(*byte)) < FIRST_OF_U0300 {
            at += some.len();
            continue;
        }
        let Some(known) = glance(&bytes[at..], some.len()) else { return false };
        at += known;
    }
    glance(&bytes[at..], usize::MAX).is_some()
}

/// Over whole characters, at least `least` bytes or all there are; the number of bytes.
fn glance(bytes: &[u8], least: usize) -> Option<usize> {
    let mut at = 0;
    while at < least.min(bytes.len()) {
        match bytes[at..] {
            [0..=0xcb, ..] => at += 1,
            [0xe2, 0x80, 0x82..=0xbf, ..] => at += 3,
            _ => return None,
        }
    }
    Some(at)
}

const SAMPLES: [(&str, &str); 16] = [
    ("English", "The quick brown fox didn't jump; it'll say \"we've WON'T, I'd, they'RE\" -- O'Neill's 3rd co-op, e.g. U.S.A. \n\nA new paragraph... with (brackets) [and] {braces}; naïve café, résumé.\n"),
    ("Latin letters", "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl. Fußgänger ÄÖÜ ẞ. Đặng Thị Ngọc Thịnh, tiếng Việt. İstanbul ığdır. ﬁnance ﬀ ſtone Ǆ ǅ\n"),
    ("decomposed letters", "cafe\u{301} n\u{303} A\u{30a} o\u{308}\u{304} \u{1112}\u{1161}\u{11ab} \u{212b} \u{2126} q\u{307}\u{323} q\u{323}\u{307} \u{f900} \u{958}\u{338}\n"),
    ("Greek and Cyrillic", "Η γρήγορη καφέ αλεπού· ὀξύς. Съешь же ещё этих мягких французских булок, да выпей чаю. Љубљана ђак ІЇЄҐ\n"),
    ("Chinese", "今天天气很好，我们去公园吧。他说：「你好！」第１２章　共3页；繁體字、龍龜。這是一個測試……㐀𠀀𪜶\n"),
    ("Japanese and Korean", "これはテストです。カタカナ、ひらがな、漢字を混ぜて。ｶﾞｷﾞ 々〆〇 ー\n안녕하세요. 오늘은 날씨가 좋네요, 그렇죠? ㄱㄴㄷ\n"),
    ("scripts of India and the South East", "नमस्ते दुनिया। क्षत्रिय हिन्दी १२३. বাংলা ভাষা। தமிழ் மொழி. ภาษาไทยไม่มีช่องว่าง ๑๒๓ ລາວ မြန်မာ ខ្មែរ\n"),
    ("scripts from right to left", "مرحبا بالعالم، كيف حالك؟ ١٢٣ السَّلامُ ‏שלום עולם! שָׁלוֹם ‎۴۵۶ فارسی‌ها ܐܪܡܝܐ\n"),
    ("further scripts", "ქართული Հայերեն አማርኛ ᏣᎳᎩ ᚠᚢᚦ ⠓⠑⠇⠇⠕ ꦗꦮ 𐍈𐌰 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙 ⅷ ½ ① ² ꙮ ߋߋ ᠮᠣᠩᠭᠣᠯ\n"),
    ("emoji", "🙂👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵 ❤️ 1️⃣ #️⃣ 🤷🏿‍♀️!!! :-) ¯\\_(ツ)_/¯ ☕️→★ ™©®\n"),
    ("code", "#include <map>\nint main(int argc, char** argv) {\n\tstd::map<int, std::string> m{{1, \"a\\n\"}};\n  for (auto& [k, v] : m) { if (k != 0x1F && v.size() >= 1e-5) ++k; }\n    return -1; // done /* ok */\n}\n\ndef f(x, *args, **kw):\n        return {**kw, 'x': x[::-1]} if x else None  # noqa\n"),
    ("markup", "<!DOCTYPE html>\n<p class=\"a-b_c\">x &amp; y</p>\r\n{\"k\":[1,2.5e+10,null,true],\"s\":\"\\u00e9\\\\\"}\n```rust\nfn main() {}\n```\n| a | b |\n|---|:-:|\n$$\\sum_{i=0}^{n}x_i$$ https://example.org/a?b=c&d=%20#e user@example.com /usr/lib/*.so\n///\n//\n"),
    ("digits", "0 1 12 123 1234 12345 1234567890123456789 3.14159 1,000,000 2026-11-26T12:34:56Z 0xDEADBEEF v1.2.3 007 ٣٤٥ 一二三 1a2b3c 99% $5 №7\n"),
    ("white space", " \t\n  \n\n\n   x\n    \t y \r\n\r\n z\u{a0}\u{a0}w\u{2003}v\u{3000}u\u{200b}t\u{feff}s\u{85}r\u{2028}q   \n \n\t\t\tp  o   n    m     l\u{b}k\u{c}j \n"),
    ("long words", "pneumonoultramicroscopicsilicovolcanoconiosisDonaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa QWxhZGRpbjpvcGVuIHNlc2FtZVF1b3RlZFByaW50YWJsZQ== ================================ --------------------------------!!!!!!!!!!!!!!!!????????\n"),
    ("odd characters", "\u{0}\u{1}\u{7f}\u{80}\u{9f} \u{fffd} \u{e000} \u{10ffff} \u{1f3fb}\u{200d}\u{200c}\u{202e}abc\u{202c} a\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}b \u{0301}x '\u{17f} 'S 'lL ’s ‘t\n"),
];
