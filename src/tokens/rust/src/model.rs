//! A model's tokenizer and templates, loaded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::{Serde, Value as TemplateValue};
use minijinja::{Error, ErrorKind};
use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::fast::FastEncoder;
use crate::template::Template;
use crate::{clock, cuts, exactness, python, shape, Chat, Fault, FaultKind, Files};

const NAMED_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Hugging Face's mark for the text that a continued message ends with.
const CONTINUE_TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
/// What a rendering is longer than its messages' JSON, mostly.
const SIZE_SLACK: usize = 4096;
const IDS_AT_ONCE: usize = 16;
/// End ids beyond this many are ignored.
const END_IDS_MAX: usize = 64;

pub struct Model {
    /// The reference: decodes, and encodes where `fast` is absent or gives up.
    tokenizer: Tokenizer,
    fast: Option<FastEncoder>,
    slow_because: String,
    uncut_because: String,
    /// Ids that added special tokens put around a text.
    before: Vec<u32>,
    after: Vec<u32>,
    /// By id: bytes of text that it stands for, where that is always the same; else 0. Empty where it is of no use.
    token_bytes: Vec<u8>,
    given_up: AtomicU64,
    /// Bit per id: is it one?
    known: Vec<bool>,
    template: Option<Template>,
    tool_template: Option<Template>,
    /// Why there is no default template although there are named ones.
    no_default: Option<String>,
    special: BTreeMap<String, String>,
    end_ids: Vec<u32>,
    inexact_because: String,
}

fn parse_object(text: Option<&str>, file: &str) -> Result<Option<Value>, Fault> {
    let Some(text) = text else { return Ok(None) };
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(_) => Err(Fault::invalid(format!("{file} is not a JSON object"))),
        Err(error) => Err(Fault::invalid(format!("{file} is not valid JSON: {error}"))),
    }
}

/// A token is named by a text or by an object that has its text under "content".
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

impl Model {
    pub fn load(files: &Files) -> Result<Model, Fault> {
        let tokenizer_config = parse_object(files.tokenizer_config, "tokenizer_config.json")?;
        let special_map = parse_object(files.special_tokens_map, "special_tokens_map.json")?;
        let config = parse_object(files.config, "config.json")?;
        let mut tokenizer = Tokenizer::from_bytes(files.tokenizer)
            .map_err(|error| Fault::invalid(format!("tokenizer.json cannot be used: {error}")))?;
        // Engines encode without the file's own truncation and padding.
        tokenizer
            .with_truncation(None)
            .map_err(|error| Fault::invalid(format!("tokenizer.json: truncation: {error}")))?
            .with_padding(None);
        let mut known = Vec::new();
        for id in tokenizer.get_vocab(true).into_values() {
            let index = id as usize;
            if index >= known.len() {
                known.resize(index + 1, false);
            }
            known[index] = true;
        }
        if known.is_empty() {
            return Err(Fault::invalid("tokenizer.json has an empty vocabulary"));
        }
        let special = special_tokens(tokenizer_config.as_ref(), special_map.as_ref());
        let end_ids = end_ids(&tokenizer, &special, config.as_ref());
        let inexact_because = exactness::inexact_because(&tokenizer, tokenizer_config.as_ref(), config.as_ref());
        let (fast, slow_because) = match FastEncoder::load(files.tokenizer, &tokenizer) {
            Ok(fast) => (Some(fast), String::new()),
            Err(why) => (None, why),
        };
        let mut uncut_because = cuts::reason_against(&tokenizer);
        let (before, after) = surrounding_ids(&tokenizer).unwrap_or_else(|| {
            uncut_because = "its special tokens are not just put around a text".to_string();
            Default::default()
        });
        let token_bytes = match uncut_because.is_empty() {
            true => cuts::token_bytes(&tokenizer),
            false => Vec::new(),
        };
        let mut model = Model {
            tokenizer,
            fast,
            slow_because,
            uncut_because,
            before,
            after,
            token_bytes,
            given_up: AtomicU64::new(0),
            known,
            template: None,
            tool_template: None,
            no_default: None,
            special,
            end_ids,
            inexact_because,
        };
        model.load_templates(files.chat_template, tokenizer_config.as_ref())?;
        Ok(model)
    }

    fn load_templates(&mut self, file: Option<&str>, tokenizer_config: Option<&Value>) -> Result<(), Fault> {
        if let Some(source) = file {
            self.template = Some(Template::compile(source)?);
            return Ok(());
        }
        match tokenizer_config.map(|config| &config["chat_template"]) {
            None | Some(Value::Null) => {}
            Some(Value::String(source)) => self.template = Some(Template::compile(source)?),
            Some(Value::Array(named)) => {
                for entry in named {
                    let (Some(name), Some(source)) = (entry["name"].as_str(), entry["template"].as_str()) else {
                        return Err(Fault::invalid(
                            "tokenizer_config.json: a named chat template needs 'name' and 'template'",
                        ));
                    };
                    match name {
                        "default" => self.template = Some(Template::compile(source)?),
                        "tool_use" => self.tool_template = Some(Template::compile(source)?),
                        _ => {}
                    }
                }
                if self.template.is_none() {
                    self.no_default =
                        Some("the model has several chat templates and none is named 'default'".to_string());
                }
            }
            Some(_) => return Err(Fault::invalid("tokenizer_config.json: chat_template is neither a text nor a list")),
        }
        Ok(())
    }

    pub fn vocabulary_size(&self) -> u32 {
        self.known.len() as u32
    }

    pub fn has_chat_template(&self) -> bool {
        self.template.is_some() || self.tool_template.is_some()
    }

    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    pub fn inexact_because(&self) -> &str {
        &self.inexact_because
    }

    /// Why the fast encoder is not used; empty when it is.
    pub fn slow_because(&self) -> &str {
        &self.slow_because
    }

    /// Why texts are not encoded in parts; empty when they may be (see `cuts`).
    pub fn uncut_because(&self) -> &str {
        &self.uncut_because
    }

    pub fn before(&self) -> &[u32] {
        &self.before
    }

    pub fn after(&self) -> &[u32] {
        &self.after
    }

    /// Texts that the fast encoder gave up on, so that the reference encoded them.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Fault> {
        if let Some(fast) = &self.fast {
            match fast.encode(text, add_special) {
                Some(ids) => return Ok(ids),
                None => self.given_up.fetch_add(1, Ordering::Relaxed),
            };
        }
        self.encode_by_reference(text, add_special)
    }

    /// The parts of a text that end at `ends`, all of them cuts or its end: their ids one after another, and how many each
    /// has. Encoding the whole at once is quicker; where each part's ids end is then told by the bytes they stand for.
    pub fn encode_parts(&self, text: &str, ends: &[usize], counts: &mut [u32]) -> Result<Vec<u32>, Fault> {
        if let Some(fast) = self.fast.as_ref().filter(|fast| !self.token_bytes.is_empty() && fast.takes_as_is(text)) {
            if let Some(ids) = fast.encode(text, false) {
                if self.count_parts(&ids, text.len(), ends, counts).is_some() {
                    return Ok(ids);
                }
            }
        }
        let mut all = Vec::with_capacity(text.len() / 3);
        let mut begin = 0;
        for (end, count) in ends.iter().zip(counts) {
            let part = text.get(begin..*end).ok_or_else(|| Fault::invalid("a part ends inside a character"))?;
            let ids = self.encode(part, false)?;
            *count = ids.len() as u32;
            all.extend_from_slice(&ids);
            begin = *end;
        }
        Ok(all)
    }

    /// None unless the ids stand for exactly the text's bytes and some of them end where each part does. An id that counts
    /// 0 stands for some, so that the others cannot stand for all of them.
    fn count_parts(&self, ids: &[u32], size: usize, ends: &[usize], counts: &mut [u32]) -> Option<()> {
        let (mut at, mut next) = (0, 0);
        for (end, count) in ends.iter().zip(counts) {
            let first = next;
            while let Some(some) = ids[next..].first_chunk::<IDS_AT_ONCE>() {
                let bytes: usize = some.iter().map(|id| self.bytes_of(*id)).sum();
                if at + bytes > *end {
                    break;
                }
                at += bytes;
                next += IDS_AT_ONCE;
            }
            while at < *end {
                at += self.bytes_of(*ids.get(next)?);
                next += 1;
            }
            if at != *end {
                return None;
            }
            *count = (next - first) as u32;
        }
        (at == size && next == ids.len()).then_some(())
    }

    fn bytes_of(&self, id: u32) -> usize {
        self.token_bytes.get(id as usize).copied().unwrap_or(0) as usize
    }

    /// How many ids the fast encoder gives; None where there is none or it gives up.
    pub fn count_by_fast(&self, text: &str) -> Option<usize> {
        self.fast.as_ref().and_then(|fast| fast.encode(text, false)).map(|ids| ids.len())
    }

    pub fn encode_by_reference(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Fault> {
        match self.tokenizer.encode_fast(text, add_special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(Fault::invalid(format!("the text cannot be encoded: {error}"))),
        }
    }

    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Fault> {
        if let Some(id) = ids.iter().find(|id| !self.known.get(**id as usize).copied().unwrap_or(false)) {
            return Err(Fault::invalid(format!(
                "token id {id} is not in the vocabulary (ids are below {})",
                self.known.len()
            )));
        }
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|error| Fault::invalid(format!("the ids cannot be decoded: {error}")))
    }

    pub fn render(&self, chat: &Chat) -> Result<String, Fault> {
        if chat.continue_final_message && chat.add_generation_prompt {
            return Err(Fault::invalid(
                "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
            ));
        }
        let variables = self.variables(chat)?;
        let with_tools = variables.get("tools").is_some_and(|tools| !tools.is_null());
        let template = match (&self.tool_template, &self.template) {
            (Some(template), _) if with_tools => template,
            (_, Some(template)) => template,
            _ => {
                let message = self.no_default.as_deref().unwrap_or("the model has no chat template");
                return Err(Fault { kind: FaultKind::Unsupported, message: message.to_string() });
            }
        };
        let mut messages = shape::messages(chat.messages, template.content_format, template.knows_developer)?;
        if chat.continue_final_message {
            let ending = tag_final_message(&mut messages, &template.source)?;
            let rendered = self.run(template, chat, &variables, &messages, chat.messages.len())?;
            return cut_at_tag(rendered, &ending);
        }
        self.run(template, chat, &variables, &messages, chat.messages.len())
    }

    /// `size_guess`: bytes that the rendering has beside a few KB.
    fn run(
        &self,
        template: &Template,
        chat: &Chat,
        variables: &Map<String, Value>,
        messages: &[Value],
        size_guess: usize,
    ) -> Result<String, Fault> {
        let mut context: BTreeMap<String, TemplateValue> =
            variables.iter().map(|(name, value)| (name.clone(), TemplateValue::from(Serde(value)))).collect();
        context.insert("messages".into(), TemplateValue::from(Serde(messages)));
        let now = chat.now_unix_seconds;
        context.insert(
            "strftime_now".into(),
            TemplateValue::from_function(move |format: &str| -> Result<String, Error> {
                if format.len() > 1024 {
                    return Err(Error::new(ErrorKind::InvalidOperation, "strftime_now: the format is too long"));
                }
                Ok(clock::strftime(now, format))
            }),
        );
        template.render(TemplateValue::from(context), size_guess + SIZE_SLACK)
    }

    /// What the template sees beside the messages: special tokens < the request's kwargs < the request's own fields.
    fn variables(&self, chat: &Chat) -> Result<Map<String, Value>, Fault> {
        let mut variables = Map::new();
        for (name, text) in &self.special {
            variables.insert(name.clone(), Value::from(text.as_str()));
        }
        variables.insert("tools".into(), Value::Null);
        variables.insert("documents".into(), Value::Null);
        if let Some(tools) = chat.tools.map(shape::tools).transpose()?.flatten() {
            variables.insert("tools".into(), tools);
        }
        let mut asked_thinking = false;
        if let Some(text) = chat.chat_template_kwargs {
            match shape::parse(text, "chat_template_kwargs")? {
                Value::Null => {}
                Value::Object(kwargs) => {
                    asked_thinking = kwargs.contains_key("enable_thinking");
                    merge_kwargs(&mut variables, kwargs)?;
                }
                _ => return Err(Fault::invalid("chat_template_kwargs is not an object")),
            }
        }
        if let Some(text) = chat.documents {
            let documents = shape::parse(text, "documents")?;
            if !documents.is_null() {
                variables.insert("documents".into(), documents);
            }
        }
        if let Some(text) = chat.reasoning_effort {
            // Both a JSON text and the bare word are understood.
            let effort = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            if !effort.is_null() {
                if !asked_thinking {
                    variables.insert("enable_thinking".into(), Value::from(effort != "none"));
                }
                variables.insert("reasoning_effort".into(), effort);
            }
        }
        variables.insert("add_generation_prompt".into(), Value::from(chat.add_generation_prompt));
        Ok(variables)
    }
}

/// Values that say nothing (null, "auto") do not count, as in vLLM 0.32.
fn merge_kwargs(variables: &mut Map<String, Value>, kwargs: Map<String, Value>) -> Result<(), Fault> {
    for (name, value) in kwargs {
        if value.is_null() || value == "auto" {
            continue;
        }
        if matches!(name.as_str(), "chat_template" | "tokenize" | "messages" | "conversation") {
            return Err(Fault::invalid(format!("Found unexpected chat template kwargs from request: {name}")));
        }
        variables.insert(name, value);
    }
    Ok(())
}

/// What stands before and behind the ids of a text to which special tokens are added; None where it is not that simple.
fn surrounding_ids(tokenizer: &Tokenizer) -> Option<(Vec<u32>, Vec<u32>)> {
    let ids = |text: &str, add: bool| Some(tokenizer.encode_fast(text, add).ok()?.get_ids().to_vec());
    let (bare, added) = (ids("a b", false)?, ids("a b", true)?);
    let at = (0..=added.len().checked_sub(bare.len())?).find(|at| added[*at..].starts_with(&bare))?;
    let (before, after) = (added[..at].to_vec(), added[at + bare.len()..].to_vec());
    for text in ["", "x", "The sea, the sea.\n"] {
        if ids(text, true)? != [before.clone(), ids(text, false)?, after.clone()].concat() {
            return None;
        }
    }
    Some((before, after))
}

fn special_tokens(config: Option<&Value>, map: Option<&Value>) -> BTreeMap<String, String> {
    let mut tokens = BTreeMap::new();
    for source in [map, config].into_iter().flatten() {
        for name in NAMED_TOKENS {
            if let Some(text) = token_text(&source[name]) {
                tokens.insert(name.to_string(), text.to_string());
            }
        }
        if let Some(extra) = source["extra_special_tokens"].as_object() {
            for (name, value) in extra {
                if let Some(text) = token_text(value) {
                    tokens.insert(name.clone(), text.to_string());
                }
            }
        }
    }
    tokens
}

fn end_ids(tokenizer: &Tokenizer, special: &BTreeMap<String, String>, config: Option<&Value>) -> Vec<u32> {
    let mut ids: Vec<u32> = special.get("eos_token").and_then(|text| tokenizer.token_to_id(text)).into_iter().collect();
    let given = config.map(|config| match &config["eos_token_id"] {
        Value::Array(several) => several.clone(),
        Value::Null => config["text_config"]["eos_token_id"].as_array().cloned().unwrap_or_default(),
        one => vec![one.clone()],
    });
    for id in given.unwrap_or_default().iter().take(END_IDS_MAX).filter_map(Value::as_u64) {
        if let Ok(id) = u32::try_from(id) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    ids
}

/// Marks where the last message ends; gives its text.
fn tag_final_message(messages: &mut [Value], source: &str) -> Result<String, Fault> {
    let Some(last) = messages.last_mut() else {
        return Err(Fault::invalid("continue_final_message is set but the conversation is empty!"));
    };
    if !source.contains("content") {
        return Err(Fault::invalid("continue_final_message is set but the chat template reads no \"content\""));
    }
    let place = match &mut last["content"] {
        Value::Array(parts) => parts.iter_mut().rev().find_map(|part| part.get_mut("text")),
        other => Some(other),
    };
    match place {
        Some(Value::String(text)) => {
            let ending = text.clone();
            text.push_str(CONTINUE_TAG);
            Ok(ending)
        }
        _ => Err(Fault::invalid(
            "continue_final_message is set but we could not find any text to continue in the final message!",
        )),
    }
}

fn cut_at_tag(mut rendered: String, ending: &str) -> Result<String, Fault> {
    let bare = CONTINUE_TAG.trim_end();
    let at = rendered.rfind(bare).filter(|_| rendered.contains(python::strip(ending)));
    let Some(at) = at else {
        return Err(Fault::invalid(
            "continue_final_message is set but the final message does not appear in the chat after applying the chat \
             template!",
        ));
    };
    let kept = match rendered[at..].starts_with(CONTINUE_TAG) {
        true => at,
        false => python::rstrip(&rendered[..at]).len(),
    };
    rendered.truncate(kept);
    Ok(rendered)
}
