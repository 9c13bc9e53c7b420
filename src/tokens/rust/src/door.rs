//! The C door: every function catches panics and hands back a status and, on failure, a message.
//! The C side of it is `src/tokens/rust_door.h`; the two are kept equal by hand. Texts of requests are UTF-8 when they
//! come here: the C++ side checks them (files of a model it does not).

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use crate::cuts;
use crate::model::Model;
use crate::{Chat, Fault, FaultKind, Files};

/// Bytes owned by the caller. A null pointer means absent; an empty text has a non-null pointer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WtBytes {
    pub data: *const u8,
    pub size: usize,
}

/// Bytes owned by this library until `wt_free_text`.
#[repr(C)]
pub struct WtText {
    pub data: *mut u8,
    pub size: usize,
    pub capacity: usize,
}

/// Ids owned by this library until `wt_free_ids`.
#[repr(C)]
pub struct WtIds {
    pub data: *mut u32,
    pub size: usize,
    pub capacity: usize,
}

#[repr(C)]
pub struct WtFiles {
    pub tokenizer_json: WtBytes,
    pub tokenizer_config_json: WtBytes,
    pub chat_template_jinja: WtBytes,
    pub special_tokens_map_json: WtBytes,
    pub config_json: WtBytes,
}

#[repr(C)]
pub struct WtChat {
    pub messages: WtBytes,
    pub tools: WtBytes,
    pub documents: WtBytes,
    pub chat_template_kwargs: WtBytes,
    pub reasoning_effort: WtBytes,
    pub add_generation_prompt: i32,
    pub continue_final_message: i32,
    pub now_unix_seconds: i64,
}

/// What is known of a loaded model; pointers live as long as the model.
#[repr(C)]
pub struct WtFacts {
    pub vocabulary_size: u32,
    pub has_chat_template: i32,
    pub end_ids: *const u32,
    pub end_ids_size: usize,
    pub inexact_because: WtBytes,
    pub slow_because: WtBytes,
    pub uncut_because: WtBytes,
    pub before: *const u32,
    pub before_size: usize,
    pub after: *const u32,
    pub after_size: usize,
}

impl WtBytes {
    unsafe fn get<'a>(self) -> Option<&'a [u8]> {
        if self.data.is_null() {
            None
        } else {
            Some(std::slice::from_raw_parts(self.data, self.size))
        }
    }

    /// A request's text, which the caller has checked.
    unsafe fn checked<'a>(self) -> Option<&'a str> {
        self.get().map(|bytes| std::str::from_utf8_unchecked(bytes))
    }

    unsafe fn text<'a>(self, what: &str) -> Result<Option<&'a str>, Fault> {
        match self.get() {
            None => Ok(None),
            Some(bytes) => {
                std::str::from_utf8(bytes).map(Some).map_err(|_| Fault::invalid(format!("{what} is not UTF-8")))
            }
        }
    }
}

fn status(kind: FaultKind) -> i32 {
    match kind {
        FaultKind::Invalid => 1,
        FaultKind::Unsupported => 2,
        FaultKind::TooLarge => 3,
        FaultKind::Internal => 4,
    }
}

unsafe fn give_text(out: *mut WtText, text: String) {
    let mut text = ManuallyDrop::new(text.into_bytes());
    *out = WtText { data: text.as_mut_ptr(), size: text.len(), capacity: text.capacity() };
}

unsafe fn give_ids(out: *mut WtIds, ids: Vec<u32>) {
    let mut ids = ManuallyDrop::new(ids);
    *out = WtIds { data: ids.as_mut_ptr(), size: ids.len(), capacity: ids.capacity() };
}

/// Runs `body`; a fault or a panic becomes a status and a message.
unsafe fn guarded(error: *mut WtText, body: impl FnOnce() -> Result<(), Fault>) -> i32 {
    let fault = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(fault)) => fault,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
                .unwrap_or_else(|| "unknown cause".to_string());
            Fault { kind: FaultKind::Internal, message: format!("the tokenizer library panicked: {text}") }
        }
    };
    give_text(error, fault.message);
    status(fault.kind)
}

fn model<'a>(handle: *const c_void) -> &'a Model {
    unsafe { &*(handle as *const Model) }
}

/// # Safety
/// All pointers are valid; `out` receives a handle for `wt_close` when 0 comes back.
#[no_mangle]
pub unsafe extern "C" fn wt_open(files: *const WtFiles, out: *mut *mut c_void, error: *mut WtText) -> i32 {
    // A caught panic is told through the status; nothing may reach stderr behind the program's back.
    static SILENCE: Once = Once::new();
    SILENCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    guarded(error, || {
        let files = &*files;
        let loaded = Model::load(&Files {
            tokenizer: files.tokenizer_json.get().unwrap_or_default(),
            tokenizer_config: files.tokenizer_config_json.text("tokenizer_config.json")?,
            chat_template: files.chat_template_jinja.text("the chat template file")?,
            special_tokens_map: files.special_tokens_map_json.text("special_tokens_map.json")?,
            config: files.config_json.text("config.json")?,
        })?;
        *out = Box::into_raw(Box::new(loaded)) as *mut c_void;
        Ok(())
    })
}

/// # Safety
/// `handle` came from `wt_open` and is not used again.
#[no_mangle]
pub unsafe extern "C" fn wt_close(handle: *mut c_void) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(handle as *mut Model))));
}

/// # Safety
/// `handle` came from `wt_open`.
#[no_mangle]
pub unsafe extern "C" fn wt_facts(handle: *const c_void, out: *mut WtFacts) {
    let model = model(handle);
    *out = WtFacts {
        vocabulary_size: model.vocabulary_size(),
        has_chat_template: model.has_chat_template() as i32,
        end_ids: model.end_ids().as_ptr(),
        end_ids_size: model.end_ids().len(),
        inexact_because: borrowed(model.inexact_because()),
        slow_because: borrowed(model.slow_because()),
        uncut_because: borrowed(model.uncut_because()),
        before: model.before().as_ptr(),
        before_size: model.before().len(),
        after: model.after().as_ptr(),
        after_size: model.after().len(),
    };
}

fn borrowed(text: &str) -> WtBytes {
    WtBytes { data: text.as_ptr(), size: text.len() }
}

/// Texts that the fast encoder gave up on.
///
/// # Safety
/// `handle` came from `wt_open`.
#[no_mangle]
pub unsafe extern "C" fn wt_given_up(handle: *const c_void) -> u64 {
    model(handle).given_up()
}

/// Whether texts may be cut between these two characters, where they may be cut at all.
#[no_mangle]
pub extern "C" fn wt_is_cut(left: u32, right: u32) -> i32 {
    let (left, right) = (char::from_u32(left), char::from_u32(right));
    (left.is_some_and(cuts::is_left) && right.is_some_and(cuts::is_right)) as i32
}

/// The ids of a text's parts, one after another; `counts` receives how many each has. Parts end at `ends`, ascending, the
/// last of them the text's own end. Only for models that allow parts.
///
/// # Safety
/// `handle` came from `wt_open`; `ends` and `counts` hold `size` numbers; `out` is freed with `wt_free_ids` when 0 comes
/// back.
#[no_mangle]
pub unsafe extern "C" fn wt_encode_parts(
    handle: *const c_void,
    text: WtBytes,
    ends: *const usize,
    counts: *mut u32,
    size: usize,
    out: *mut WtIds,
    error: *mut WtText,
) -> i32 {
    guarded(error, || {
        let text = text.checked().unwrap_or_default();
        let (ends, counts) = match size {
            0 => (&[][..], &mut [][..]),
            _ => (std::slice::from_raw_parts(ends, size), std::slice::from_raw_parts_mut(counts, size)),
        };
        give_ids(out, model(handle).encode_parts(text, ends, counts)?);
        Ok(())
    })
}

/// What fastokens costs when Rust calls it: encodes, hands nothing over but the number of ids. For benchmarks;
/// `u64::MAX` where there is no fast encoder.
///
/// # Safety
/// `handle` came from `wt_open`.
#[no_mangle]
pub unsafe extern "C" fn wt_count_by_fast(handle: *const c_void, text: WtBytes) -> u64 {
    text.checked().and_then(|text| model(handle).count_by_fast(text)).map_or(u64::MAX, |count| count as u64)
}

unsafe fn encode_with(
    encode: impl FnOnce(&str, bool) -> Result<Vec<u32>, Fault>,
    text: WtBytes,
    add_special: i32,
    out: *mut WtIds,
    error: *mut WtText,
) -> i32 {
    guarded(error, || {
        give_ids(out, encode(text.checked().unwrap_or_default(), add_special != 0)?);
        Ok(())
    })
}

/// # Safety
/// `handle` came from `wt_open`; `out` is freed with `wt_free_ids` when 0 comes back.
#[no_mangle]
pub unsafe extern "C" fn wt_encode(
    handle: *const c_void,
    text: WtBytes,
    add_special: i32,
    out: *mut WtIds,
    error: *mut WtText,
) -> i32 {
    encode_with(|text, add| model(handle).encode(text, add), text, add_special, out, error)
}

/// `wt_encode` by the `tokenizers` crate alone: what tests and benchmarks compare with.
///
/// # Safety
/// As `wt_encode`.
#[no_mangle]
pub unsafe extern "C" fn wt_encode_by_reference(
    handle: *const c_void,
    text: WtBytes,
    add_special: i32,
    out: *mut WtIds,
    error: *mut WtText,
) -> i32 {
    encode_with(|text, add| model(handle).encode_by_reference(text, add), text, add_special, out, error)
}

/// # Safety
/// `handle` came from `wt_open`; `ids` holds `size` ids; `out` is freed with `wt_free_text` when 0 comes back.
#[no_mangle]
pub unsafe extern "C" fn wt_decode(
    handle: *const c_void,
    ids: *const u32,
    size: usize,
    skip_special: i32,
    out: *mut WtText,
    error: *mut WtText,
) -> i32 {
    guarded(error, || {
        let ids = if size == 0 { &[] } else { std::slice::from_raw_parts(ids, size) };
        give_text(out, model(handle).decode(ids, skip_special != 0)?);
        Ok(())
    })
}

/// # Safety
/// `handle` came from `wt_open`; `out` is freed with `wt_free_text` when 0 comes back.
#[no_mangle]
pub unsafe extern "C" fn wt_render(
    handle: *const c_void,
    chat: *const WtChat,
    out: *mut WtText,
    error: *mut WtText,
) -> i32 {
    guarded(error, || {
        let chat = &*chat;
        let text = model(handle).render(&Chat {
            messages: chat.messages.checked().unwrap_or_default(),
            tools: chat.tools.checked(),
            documents: chat.documents.checked(),
            chat_template_kwargs: chat.chat_template_kwargs.checked(),
            reasoning_effort: chat.reasoning_effort.checked(),
            add_generation_prompt: chat.add_generation_prompt != 0,
            continue_final_message: chat.continue_final_message != 0,
            now_unix_seconds: chat.now_unix_seconds,
        })?;
        give_text(out, text);
        Ok(())
    })
}

/// # Safety
/// `text` was filled by this library and is not used again.
#[no_mangle]
pub unsafe extern "C" fn wt_free_text(text: WtText) {
    if !text.data.is_null() {
        drop(Vec::from_raw_parts(text.data, text.size, text.capacity));
    }
}

/// # Safety
/// `ids` was filled by this library and is not used again.
#[no_mangle]
pub unsafe extern "C" fn wt_free_ids(ids: WtIds) {
    if !ids.data.is_null() {
        drop(Vec::from_raw_parts(ids.data, ids.size, ids.capacity));
    }
}
