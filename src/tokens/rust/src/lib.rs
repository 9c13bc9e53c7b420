//! Chat templates and tokenizers for Warmpath's `tokens` room: see `door` for what C++ calls.

mod clock;
mod content_format;
mod cuts;
mod door;
mod exactness;
mod fast;
mod json;
mod json_text;
mod model;
mod python;
mod shape;
mod template;

/// What went wrong, in the terms of the C door's statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Invalid,
    Unsupported,
    TooLarge,
    Internal,
}

#[derive(Debug)]
pub struct Fault {
    pub kind: FaultKind,
    pub message: String,
}

impl Fault {
    pub fn invalid(message: impl Into<String>) -> Fault {
        Fault { kind: FaultKind::Invalid, message: message.into() }
    }
}

/// The files of a model folder; an absent one is `None`.
pub struct Files<'a> {
    pub tokenizer: &'a [u8],
    pub tokenizer_config: Option<&'a str>,
    pub chat_template: Option<&'a str>,
    pub special_tokens_map: Option<&'a str>,
    pub config: Option<&'a str>,
}

/// A chat-completions body's fields as JSON texts.
pub struct Chat<'a> {
    pub messages: &'a str,
    pub tools: Option<&'a str>,
    pub documents: Option<&'a str>,
    pub chat_template_kwargs: Option<&'a str>,
    pub reasoning_effort: Option<&'a str>,
    pub add_generation_prompt: bool,
    pub continue_final_message: bool,
    pub now_unix_seconds: i64,
}
