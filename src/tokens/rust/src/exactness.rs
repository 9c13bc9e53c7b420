//! Are our ids the engine's? transformers 5 does not always take `tokenizer.json` as it is: for many classes it takes
//! vocabulary and merges only and builds the rest from the class. What is proven here is narrow on purpose; the rest
//! is for the engine's own /tokenize to confirm.

use serde_json::{json, Value};
use tokenizers::models::ModelWrapper;
use tokenizers::Tokenizer;

/// Classes that take tokenizer.json as it is.
const GENERIC_CLASSES: [&str; 5] =
    ["PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "TokenizersBackendFast"];

/// Model types for which transformers 5 ignores the class and takes tokenizer.json as it is.
const PLAIN_MODEL_TYPES: [&str; 33] = [
    "arctic",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v4",
    "ernie4_5",
    "ernie4_5_moe",
    "flex_olmo",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "glm4v",
    "glm4v_moe",
    "granite",
    "granitemoe",
    "granitemoehybrid",
    "granitemoeshared",
    "hyperclovax",
    "internlm3",
    "jamba",
    "kimi_k25",
    "kimi_linear",
    "mimo_v2_flash",
    "minimax_m2",
    "molmo",
    "nemotron",
    "olmo2",
    "olmo3",
    "olmo_hybrid",
    "phi3",
    "phimoe",
    "stablelm",
];

/// Model types whose chats vLLM 0.32 renders in code, not by a template.
const CODE_RENDERED: [&str; 5] = ["gpt_oss", "deepseek_v32", "deepseek_v4", "kimi_k3", "inkling"];

fn class_of<'a>(tokenizer_config: &'a Value, config: &'a Value) -> Option<&'a str> {
    tokenizer_config["tokenizer_class"].as_str().or_else(|| config["tokenizer_class"].as_str())
}

/// Why the ids are not known to be the engine's; empty when they are.
pub fn inexact_because(tokenizer: &Tokenizer, tokenizer_config: Option<&Value>, config: Option<&Value>) -> String {
    let null = Value::Null;
    let model_type = config.and_then(|config| config["model_type"].as_str());
    if let Some(name) = model_type.filter(|name| CODE_RENDERED.contains(name)) {
        return format!("engines render chats of model type {name} in code, not by its template");
    }
    let Some(tokenizer_config) = tokenizer_config else {
        return "tokenizer_config.json is missing: the tokenizer's class is not known".to_string();
    };
    if !tokenizer_config["auto_map"].is_null() {
        return "tokenizer_config.json names code of its own (auto_map) that may tokenize otherwise".to_string();
    }
    let class = class_of(tokenizer_config, config.unwrap_or(&null));
    if class.is_some_and(|name| GENERIC_CLASSES.contains(&name)) {
        return String::new();
    }
    let named = class.unwrap_or("not named");
    let Some(model_type) = model_type else {
        return format!(
            "config.json is missing or names no model_type, and the tokenizer class ({named}) is not a generic one"
        );
    };
    if PLAIN_MODEL_TYPES.contains(&model_type) {
        return String::new();
    }
    if class.is_some_and(|name| rebuilds_the_same(name, tokenizer)) {
        return String::new();
    }
    format!("transformers may rebuild the tokenizer from its class ({named}) for model type {model_type}")
}

/// The class builds exactly the pipeline that this tokenizer.json holds (read in transformers 5.23).
fn rebuilds_the_same(class: &str, tokenizer: &Tokenizer) -> bool {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else {
        return false;
    };
    let plain = model.dropout.is_none()
        && !model.ignore_merges
        && model.continuing_subword_prefix.as_deref().unwrap_or_default().is_empty()
        && model.end_of_word_suffix.as_deref().unwrap_or_default().is_empty();
    let normalizer = to_json(&tokenizer.get_normalizer());
    let pre_tokenizer = to_json(&tokenizer.get_pre_tokenizer());
    plain
        && match class.trim_end_matches("Fast") {
            "Qwen2Tokenizer" => {
                let pattern = concat!(
                    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
                    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                );
                !model.byte_fallback
                    && normalizer == json!({"type": "NFC"})
                    && pre_tokenizer["pretokenizers"].as_array().is_some_and(|steps| {
                        steps.len() == 2
                            && steps[0]["pattern"]["Regex"] == pattern
                            && steps[0]["behavior"] == "Isolated"
                            && steps[0]["invert"] == false
                            && steps[1]["type"] == "ByteLevel"
                            && steps[1]["add_prefix_space"] == false
                            && steps[1]["use_regex"] == false
                    })
            }
            "GemmaTokenizer" => {
                model.byte_fallback
                    && model.fuse_unk
                    && normalizer == json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"})
                    && pre_tokenizer["pattern"]["String"] == " "
                    && pre_tokenizer["behavior"] == "MergedWithPrevious"
                    && pre_tokenizer["invert"] == false
            }
            _ => false,
        }
}

fn to_json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
