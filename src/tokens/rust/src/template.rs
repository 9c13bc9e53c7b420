//! Jinja templates as Hugging Face's `apply_chat_template` runs them, within bounds.

use minijinja::machinery::{ast::Stmt, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

use crate::content_format::{self, ContentFormat};
use crate::{json, python, Fault, FaultKind};

/// Steps that one rendering may take, at about 30 ns each: a chat of 10,000 messages takes about a million.
const FUEL_MAX: u64 = 30_000_000;
/// A template longer than this is refused; the longest known are about 30 KB.
const TEMPLATE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// One compiled template.
pub struct Template {
    environment: Environment<'static>,
    pub source: String,
    pub content_format: ContentFormat,
    /// Mentions "developer": else such messages are sent as system messages (vLLM 0.32).
    pub knows_developer: bool,
}

const NAME: &str = "chat template";

impl Template {
    pub fn compile(source: &str) -> Result<Template, Fault> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(Fault {
                kind: FaultKind::TooLarge,
                message: format!("the chat template is longer than {TEMPLATE_BYTES_MAX} bytes"),
            });
        }
        let source = replace_generation_tags(source);
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| Fault::invalid(format!("the template syntax: {error}")))?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax.clone());
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL_MAX));
        environment.set_debug(false);
        environment.set_unknown_method_callback(python::call_method);
        environment.add_filter("tojson", json::tojson);
        environment.add_filter("trim", python::trim);
        environment.add_test("iterable", python::is_iterable);
        environment.add_test("sequence", python::is_sequence);
        environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
        });
        let compile_fault = |error: Error| Fault::invalid(format!("the chat template does not compile: {error}"));
        environment.add_template_owned(NAME, source.clone()).map_err(compile_fault)?;
        let parsed = parse(&source, NAME, syntax).map_err(compile_fault)?;
        let statements = match &parsed {
            Stmt::Template(root) => root.children.as_slice(),
            _ => &[],
        };
        let content_format = content_format::detect(statements);
        let knows_developer = source.contains("\"developer\"") || source.contains("'developer'");
        drop(parsed);
        Ok(Template { environment, source, content_format, knows_developer })
    }

    /// `size_guess`: bytes that it will be, more or less.
    pub fn render(&self, context: Value, size_guess: usize) -> Result<String, Fault> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| Fault { kind: FaultKind::Internal, message: error.to_string() })?;
        let mut out = Vec::with_capacity(size_guess);
        template.render_captured_to(context, &mut out).map_err(|error| match error.kind() {
            ErrorKind::OutOfFuel => Fault {
                kind: FaultKind::TooLarge,
                message: format!("the chat template took more than {FUEL_MAX} steps for these messages: send less"),
            },
            // What raise_exception said is the whole message: engines answer with exactly that.
            ErrorKind::InvalidOperation => Fault::invalid(match error.detail() {
                Some(detail) => detail.to_string(),
                None => error.to_string(),
            }),
            _ => Fault::invalid(error.to_string()),
        })?;
        String::from_utf8(out).map_err(|error| Fault { kind: FaultKind::Internal, message: error.to_string() })
    }
}

/// `{% generation %}` … `{% endgeneration %}` only marks what an assistant wrote, in a scope of its own: `with` does
/// the same. Whether the tag trims white space around it stays as written.
fn replace_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let name_at = tag.find(|c: char| !c.is_whitespace() && c != '-' && c != '+').unwrap_or(tag.len());
        let (lead, name) = tag.split_at(name_at);
        out.push_str(lead);
        rest = name;
        for (from, to) in [("generation", "with"), ("endgeneration", "endwith")] {
            let Some(tail) = name.strip_prefix(from) else { continue };
            let end = tail.trim_start();
            if ["%}", "-%}", "+%}"].iter().any(|close| end.starts_with(close)) {
                out.push_str(to);
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}
