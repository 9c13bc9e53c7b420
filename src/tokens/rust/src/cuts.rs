//! Where a text may be cut so that encoding the two parts alone gives the ids of the whole.
//!
//! A cut lies between a letter or digit and a white space character or a CJK stop. Claim: for the tokenizers that
//! `reason_against` lets pass, encode(left + right) == encode(left) + encode(right), whatever stands around.
//! - Added tokens: none of them contains such a pair, none of them absorbs white space behind its last letter or looks
//!   at its neighbours, so no match spans a cut and matches on both sides are those of the parts.
//! - NFC: the character right of a cut never composes with what stands before it.
//! - Pre-tokenizers: in each pattern below every match is one of: a contraction, an optional leading character and
//!   letters (and marks), digits, an optional space and other characters and line ends, white space. In none a letter or
//!   digit is followed by white space or a stop, so every match that reaches the left character ends there. The only look
//!   ahead (`\s+(?!\S)`) reaches one character beyond a run of white space, which ends before the left character; nothing
//!   looks behind. Letters, digits, white space and stops are always part of a match.
//! - BPE works within pre-tokens. Where there are none (Gemma), no vocabulary entry contains a pair, so no merge spans a
//!   cut, and merges on both sides do not see each other.

use serde_json::{json, Value};
use tokenizers::models::ModelWrapper;
use tokenizers::Tokenizer;

/// Letters and digits. src/tokens/cuts.h holds the same sets; a test compares the two.
pub fn is_left(c: char) -> bool {
    matches!(c, '0'..='9' | 'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{ff}'
        | '\u{410}'..='\u{44f}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{4e00}'..='\u{9fa5}'
        | '\u{ac00}'..='\u{d7a3}')
}

/// White space, and the stops of Chinese and Japanese.
pub fn is_right(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{3001}' | '\u{3002}' | '\u{ff0c}')
}

/// What Gemma's normalizer makes of a space.
const METASPACE: char = '\u{2581}';

const DIGITS: &str = r"\p{N}{1,3}";
const CJK: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
const DEEPSEEK: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"##,
    "\r\n",
    r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[",
    "\r\n",
    r"]*|\s*[",
    "\r\n",
    r"]+|\s+(?!\S)|\s+"
);

/// Patterns of a single Split for which the claim was checked by hand.
fn single_patterns() -> Vec<String> {
    let ending = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let slash_ending = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let letters = r"[^\r\n\p{L}\p{N}]?\p{L}+";
    let upper = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
    let lower = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";
    let cased = format!(r"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*");
    let short = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)";
    let cased_short =
        format!(r"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{short}?|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{short}?");
    let mut all = Vec::new();
    for digits in [r"\p{N}", DIGITS] {
        all.push(format!("{letters}|{digits}{ending}"));
        all.push(format!("{short}|{letters}|{digits}{ending}"));
        all.push(format!("{cased}|{digits}{slash_ending}"));
        all.push(format!("{cased_short}|{digits}{slash_ending}"));
    }
    all
}

fn to_json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

fn isolated_pattern(step: &Value) -> Option<&str> {
    let plain = step["type"] == "Split" && step["behavior"] == "Isolated" && step["invert"] == false;
    step["pattern"]["Regex"].as_str().filter(|_| plain)
}

fn is_byte_level(step: &Value, use_regex: bool) -> bool {
    step["type"] == "ByteLevel" && step["add_prefix_space"] == false && step["use_regex"] == use_regex
}

enum Family {
    PreTokens,
    /// One long word; spaces are written as metaspaces.
    Metaspace,
}

fn family_of(normalizer: &Value, pre_tokenizer: &Value) -> Option<Family> {
    let empty = Vec::new();
    let nfc_only = match normalizer["type"].as_str() {
        None => normalizer.is_null(),
        Some("NFC") => true,
        Some("Sequence") => {
            normalizer["normalizers"].as_array().unwrap_or(&empty).iter().all(|one| one["type"] == "NFC")
        }
        _ => false,
    };
    if nfc_only && is_byte_level(pre_tokenizer, true) {
        return Some(Family::PreTokens);
    }
    if nfc_only && pre_tokenizer["type"] == "Sequence" {
        let steps = pre_tokenizer["pretokenizers"].as_array().unwrap_or(&empty);
        let (last, splits) = steps.split_last()?;
        let patterns: Vec<&str> = splits.iter().filter_map(isolated_pattern).collect();
        let known = patterns.len() == splits.len()
            && match patterns.as_slice() {
                [one] => single_patterns().iter().any(|known| known == one),
                [digits, cjk, rest] => *digits == DIGITS && *cjk == CJK && *rest == DEEPSEEK,
                _ => false,
            };
        return (known && is_byte_level(last, false)).then_some(Family::PreTokens);
    }
    let metaspace = *normalizer == json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let no_op = pre_tokenizer.is_null()
        || (pre_tokenizer["pattern"]["String"] == " " && pre_tokenizer["behavior"] == "MergedWithPrevious");
    (metaspace && no_op).then_some(Family::Metaspace)
}

fn contains_cut(text: &str, family: &Family) -> bool {
    let metaspace = matches!(family, Family::Metaspace);
    let is_end = |c: char| is_right(c) || (metaspace && c == METASPACE);
    text.chars().zip(text.chars().skip(1)).any(|(left, right)| is_left(left) && is_end(right))
}

/// By id, the bytes of text that it stands for, given that no normalizer changes the text; 0 where that is not one
/// number, or does not fit. Empty for tokenizers that are not byte-level.
pub fn token_bytes(tokenizer: &Tokenizer) -> Vec<u8> {
    let normalizer = to_json(&tokenizer.get_normalizer());
    if !matches!(family_of(&normalizer, &to_json(&tokenizer.get_pre_tokenizer())), Some(Family::PreTokens)) {
        return Vec::new();
    }
    let mut bytes = vec![0; tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)];
    for (token, id) in tokenizer.get_vocab(false) {
        // A byte is one character in such a vocabulary.
        bytes[id as usize] = u8::try_from(token.chars().count()).unwrap_or(0);
    }
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        let fixed = !token.lstrip && !token.rstrip;
        bytes[id as usize] = u8::try_from(token.content.len()).ok().filter(|_| fixed).unwrap_or(0);
    }
    bytes
}

/// Why texts may not be cut for this tokenizer; empty when they may.
pub fn reason_against(tokenizer: &Tokenizer) -> String {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else {
        return "its model is not BPE".to_string();
    };
    let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
    if model.dropout.is_some() || affixes.into_iter().flatten().any(|affix| !affix.is_empty()) {
        return "its model drops merges at random or marks the ends of words".to_string();
    }
    let Some(family) = family_of(&to_json(&tokenizer.get_normalizer()), &to_json(&tokenizer.get_pre_tokenizer()))
    else {
        return "its normalizer and pre-tokenizer are none that is known to allow it".to_string();
    };
    for token in tokenizer.get_added_tokens_decoder().values() {
        let looks_around = token.single_word || (token.rstrip && token.content.chars().last().is_some_and(is_left));
        if looks_around || contains_cut(&token.content, &family) {
            return "an added token holds a place where texts would be cut, or looks at what stands around it"
                .to_string();
        }
    }
    if let Family::Metaspace = family {
        let vocabulary = tokenizer.get_vocab(false);
        let no_unknowns =
            model.byte_fallback && (0..256).all(|byte| vocabulary.contains_key(&format!("<0x{byte:02X}>")));
        if !no_unknowns || vocabulary.keys().any(|token| contains_cut(token, &family)) {
            return "its vocabulary holds entries that reach over the places where texts would be cut".to_string();
        }
    }
    String::new()
}
