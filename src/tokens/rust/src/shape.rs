//! A chat-completions body's messages and tools as vLLM 0.32 hands them to a template.
//!
//! vLLM parses bodies with pydantic, so what a template that prints a whole tool call or tool sees is the model's
//! field order, not the client's: `{"arguments", "name"}` in a call, `{"name", "description", "parameters"}` in a tool
//! (recorded: chat_token_ids, mistral_nemo "parallel tool calls", qwen3 "two tools no system").

use serde_json::{Map, Value};

use crate::content_format::ContentFormat;
use crate::{json_text, Fault};

const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// Media part types and the name that templates see them under.
const MEDIA: [(&str, &str); 9] = [
    ("image_url", "image"),
    ("input_image", "image"),
    ("image_pil", "image"),
    ("image_embeds", "image"),
    ("audio_url", "audio"),
    ("input_audio", "audio"),
    ("audio_embeds", "audio"),
    ("video_url", "video"),
    ("video_embeds", "video"),
];
const TEXT_KEYS: [(&str, &str); 5] = [
    ("text", "text"),
    ("input_text", "text"),
    ("output_text", "text"),
    ("refusal", "refusal"),
    ("thinking", "thinking"),
];

pub fn parse(text: &str, what: &str) -> Result<Value, Fault> {
    json_text::parse(text).map_err(|error| Fault::invalid(format!("{what} is not valid JSON: {error}")))
}

pub fn messages(text: &str, format: ContentFormat, knows_developer: bool) -> Result<Vec<Value>, Fault> {
    let Value::Array(given) = parse(text, "messages")? else {
        return Err(Fault::invalid("messages is not an array"));
    };
    if given.is_empty() {
        return Err(Fault::invalid("messages is empty"));
    }
    let mut shaped = Vec::with_capacity(given.len());
    for (i, message) in given.into_iter().enumerate() {
        let Value::Object(message) = message else {
            return Err(Fault::invalid(format!("messages[{i}] is not an object")));
        };
        shaped.push(
            shape_message(message, format)
                .map_err(|fault| Fault { message: format!("messages[{i}]: {}", fault.message), ..fault })?,
        );
    }
    let any_developer = shaped.iter().any(|message| message["role"] == "developer");
    if any_developer && !knows_developer {
        shaped = join_systems(shaped);
    }
    Ok(shaped.into_iter().map(Value::Object).collect())
}

fn shape_message(mut given: Map<String, Value>, format: ContentFormat) -> Result<Map<String, Value>, Fault> {
    let Some(Value::String(role)) = given.get("role").cloned() else {
        return Err(Fault::invalid("role is missing or not a text"));
    };
    let old_reasoning = given.remove("reasoning_content").filter(|value| !value.is_null());
    let reasoning = given.remove("reasoning").filter(|value| !value.is_null()).or(old_reasoning);
    let parts = match given.remove("content") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(parts)) => parts,
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(_) => return Err(Fault::invalid("content is neither a text nor an array")),
    };
    let mut content = shape_content(parts, role == "system", format)?;
    let mut out = Map::new();
    if role == "tool" {
        content = join_if_all_text(content);
    }
    if let Some(reasoning) = reasoning.as_ref().filter(|_| role == "assistant") {
        // transformers 5 gives templates the reasoning under this name as well.
        out.insert("thinking".into(), reasoning.clone());
    }
    out.insert("role".into(), Value::String(role.clone()));
    out.insert("content".into(), content);
    match role.as_str() {
        "assistant" => {
            if let Some(calls) = given.remove("tool_calls").filter(|calls| !calls.is_null()) {
                shape_calls(calls, &mut out)?;
            }
            if let Some(reasoning) = reasoning {
                out.insert("reasoning".into(), reasoning.clone());
                out.insert("reasoning_content".into(), reasoning);
            }
        }
        "tool" => {
            if let Some(id) = given.remove("tool_call_id") {
                out.insert("tool_call_id".into(), id);
            }
        }
        _ => {}
    }
    for name in ["name", "task"] {
        if let Some(text @ Value::String(_)) = given.remove(name) {
            out.insert(name.into(), text);
        }
    }
    if role == "developer" {
        out.insert("tools".into(), given.remove("tools").unwrap_or(Value::Null));
    }
    Ok(out)
}

/// A system text that starts with a certain client's ever-changing header loses that line, as in vLLM 0.32.
fn without_billing_header(text: &str) -> Option<&str> {
    if !text.starts_with(BILLING_HEADER) {
        return Some(text);
    }
    text.split_once('\n').map(|(_, rest)| rest).filter(|rest| !rest.is_empty())
}

fn shape_content(parts: Vec<Value>, is_system: bool, format: ContentFormat) -> Result<Value, Fault> {
    let mut texts = Vec::new();
    let mut shaped = Vec::new();
    for part in parts {
        let (text, extra) = match part {
            Value::String(text) => (text, Map::new()),
            Value::Object(part) => match read_part(part)? {
                Part::Text(text, extra) => (text, extra),
                Part::Other(value) => {
                    // Where content is one text, the engine's model decides what stands for an image: not known here.
                    shaped.push(value);
                    continue;
                }
                Part::Nothing => continue,
            },
            _ => return Err(Fault::invalid("a content part is neither a text nor an object")),
        };
        let text = match is_system {
            true => match without_billing_header(&text) {
                Some(rest) if rest.len() == text.len() => text,
                Some(rest) => rest.to_string(),
                None => continue,
            },
            false => text,
        };
        if format == ContentFormat::Parts {
            let mut object =
                Map::from_iter([("type".to_string(), Value::from("text")), ("text".to_string(), Value::from(text))]);
            object.extend(extra);
            shaped.push(Value::Object(object));
        } else if !text.is_empty() {
            texts.push(text);
        }
    }
    Ok(match format {
        ContentFormat::Parts => Value::Array(shaped),
        ContentFormat::Text if texts.len() == 1 => Value::String(texts.remove(0)),
        ContentFormat::Text => Value::String(texts.join("\n")),
    })
}

enum Part {
    Text(String, Map<String, Value>),
    Other(Value),
    Nothing,
}

fn read_part(mut part: Map<String, Value>) -> Result<Part, Fault> {
    let kind = match part.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        // Parts without a type are told by the key they have.
        _ => match ["image_url", "audio_url", "video_url", "input_audio", "image_embeds", "audio_embeds", "refusal"]
            .into_iter()
            .find(|key| part.contains_key(*key))
        {
            Some(key) => key.to_string(),
            None => return Err(Fault::invalid("a content part has no 'type'")),
        },
    };
    if let Some((_, key)) = TEXT_KEYS.iter().find(|(name, _)| *name == kind) {
        return match part.remove(*key) {
            Some(Value::String(text)) => Ok(Part::Text(text, Map::new())),
            None | Some(Value::Null) => Ok(Part::Nothing),
            Some(_) => Err(Fault::invalid(format!("a content part's '{key}' is not a text"))),
        };
    }
    if kind == "tool_reference" {
        let name = part.remove("name").unwrap_or(Value::Null);
        return Ok(Part::Other(Value::Object(Map::from_iter([
            ("type".to_string(), Value::from("tool_reference")),
            ("name".to_string(), name),
        ]))));
    }
    match MEDIA.iter().find(|(name, _)| *name == kind) {
        Some((_, modality)) => {
            Ok(Part::Other(Value::Object(Map::from_iter([("type".to_string(), Value::from(*modality))]))))
        }
        None => Err(Fault::invalid(format!("Unsupported chat content part type: '{kind}'"))),
    }
}

/// A tool's result given as text parts is one text, whatever the template's form.
fn join_if_all_text(content: Value) -> Value {
    match content {
        Value::Array(parts) if parts.iter().all(|part| part["type"] == "text") => Value::String(
            parts.iter().map(|part| part["text"].as_str().unwrap_or_default()).collect::<Vec<_>>().join("\n"),
        ),
        other => other,
    }
}

fn shape_calls(calls: Value, out: &mut Map<String, Value>) -> Result<(), Fault> {
    let Value::Array(calls) = calls else {
        return Err(Fault::invalid("tool_calls is not an array"));
    };
    if calls.is_empty() {
        return Ok(());
    }
    let mut shaped = Vec::with_capacity(calls.len());
    for call in calls {
        let Value::Object(mut call) = call else {
            return Err(Fault::invalid("assistant tool_calls entries must be objects."));
        };
        let is_function = call.get("type").is_none_or(|kind| kind == "function");
        let (true, Some(Value::Object(mut function))) = (is_function, call.remove("function")) else {
            return Err(Fault::invalid("chat completions only support assistant tool_calls of type 'function'."));
        };
        let arguments = match function.remove("arguments") {
            Some(Value::Object(arguments)) => arguments,
            Some(Value::String(text)) => match serde_json::from_str(&text) {
                Ok(Value::Object(arguments)) => arguments,
                _ => Map::new(),
            },
            _ => Map::new(),
        };
        let mut ordered = Map::from_iter([("arguments".to_string(), Value::Object(arguments))]);
        if let Some(name) = function.remove("name") {
            ordered.insert("name".into(), name);
        }
        let mut entry = Map::new();
        if let Some(id) = call.remove("id") {
            entry.insert("id".into(), id);
        }
        entry.insert("function".into(), Value::Object(ordered));
        if let Some(kind) = call.remove("type") {
            entry.insert("type".into(), kind);
        }
        shaped.push(Value::Object(entry));
    }
    out.insert("tool_calls".into(), Value::Array(shaped));
    Ok(())
}

/// Developer messages become system messages; then all system messages are one, in front (vLLM 0.32).
fn join_systems(messages: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    let mut messages = messages;
    for message in &mut messages {
        if message["role"] == "developer" {
            message.insert("role".into(), Value::from("system"));
            message.remove("tools");
        }
    }
    let is_system = |message: &Map<String, Value>| message["role"] == "system";
    // An only system message that stands first stays as it is.
    let mut sole = true;
    let mut texts: Vec<String> = Vec::new();
    for (i, message) in messages.iter().enumerate().filter(|(_, message)| is_system(message)) {
        sole &= i == 0 && texts.is_empty();
        let text = match &message["content"] {
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
            other => other.as_str().unwrap_or_default().to_string(),
        };
        if !text.is_empty() {
            texts.push(text);
        }
    }
    if sole {
        return messages;
    }
    let mut joined = vec![Map::from_iter([
        ("role".to_string(), Value::from("system")),
        ("content".to_string(), Value::from(texts.join("\n\n"))),
    ])];
    joined.extend(messages.into_iter().filter(|message| !is_system(message)));
    joined
}

/// Tools in the engine's field order; a missing description or parameters is null, a missing strict is left out.
pub fn tools(text: &str) -> Result<Option<Value>, Fault> {
    let given = match parse(text, "tools")? {
        Value::Null => return Ok(None),
        Value::Array(tools) if tools.is_empty() => return Ok(None),
        Value::Array(tools) => tools,
        _ => return Err(Fault::invalid("tools is not an array")),
    };
    let mut shaped = Vec::with_capacity(given.len());
    for (i, tool) in given.into_iter().enumerate() {
        let Value::Object(mut tool) = tool else {
            return Err(Fault::invalid(format!("tools[{i}] is not an object")));
        };
        let Some(Value::Object(mut function)) = tool.remove("function") else {
            return Err(Fault::invalid(format!("tools[{i}].function is missing or not an object")));
        };
        let Some(name @ Value::String(_)) = function.remove("name") else {
            return Err(Fault::invalid(format!("tools[{i}].function.name is missing or not a text")));
        };
        let deferred = tool.remove("defer_loading").filter(|value| !value.is_null());
        let mut ordered = Map::from_iter([("name".to_string(), name)]);
        for key in ["description", "parameters"] {
            ordered.insert(key.into(), function.remove(key).unwrap_or(Value::Null));
        }
        if let Some(strict) = function.remove("strict").filter(|value| !value.is_null()) {
            ordered.insert("strict".into(), strict);
        }
        let own_deferred = function.remove("defer_loading").filter(|value| !value.is_null());
        if let Some(value) = own_deferred.or(deferred.clone()) {
            ordered.insert("defer_loading".into(), value);
        }
        let mut entry = Map::from_iter([
            ("type".to_string(), Value::from("function")),
            ("function".to_string(), Value::Object(ordered)),
        ]);
        if let Some(value) = deferred {
            entry.insert("defer_loading".into(), value);
        }
        shaped.push(Value::Object(entry));
    }
    Ok(Some(Value::Array(shaped)))
}
