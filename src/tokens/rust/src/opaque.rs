//! Does a template treat messages' contents as wholes, so that a short stand-in may be rendered in a long one's place?
//!
//! `stand_ins` puts `head + marker + tail` where a content is long, renders, and puts the middle back. Claim: for a
//! template that `prove` accepts, and contents that `Rules::fits`, that gives what rendering the content itself gives, or
//! an error or a damaged marker, which are seen. The proof goes over every expression of the template with the kinds
//! below; an operation is accepted only where its result is the same (truth values, counts, lists) or is the operands'
//! text put together, stripped at its ends, or passed on (texts):
//! - Only the values under "content" of messages are stood in for. What is reached by other names holds none, unless the
//!   template itself puts something there.
//! - Stripping ends within the first and last `STRIPPED_MAX` bytes, and leaves `CONSTANT_MAX` bytes of text before the
//!   marker: looking for a constant at an end, or across a seam of texts put together, never gets to see the marker.
//! - A constant that texts are searched, split or replaced by (a needle) is nowhere in the content, so nothing is found
//!   in either. Only contents alone are split: text that was put together is never cut.
//! - Comparing with a constant says "unequal" both times: contents that are stood in for are longer.
//! - Slices, single characters, iteration over texts, lengths, changes of case, and whatever is not named here: refused.

use std::collections::HashMap;

use minijinja::machinery::ast::{
    BinOpKind, Call, CallArg, CallType, CompareOpKind, Expr, Filter, Stmt, Test, UnaryOpKind,
};
use minijinja::value::ValueKind;

use crate::python;

/// Contents shorter than this are rendered as they are.
pub const BYTES_MIN: usize = 1024;
/// What is kept of a content at either end.
pub const EDGE_BYTES: usize = 128;
const STRIPPED_MAX: usize = 64;
const CONSTANT_MAX: usize = EDGE_BYTES - STRIPPED_MAX - 4; // a character's rest may be missing at an edge

/// What a value may be or hold, as a set of bits. None: nothing that was stood in for.
type Kind = u8;
const FREE: Kind = 0;
/// Messages: a list of them, or one.
const MESSAGES: Kind = 1;
/// Something else that holds such texts.
const HOLDER: Kind = 2;
/// A content, perhaps stripped.
const CONTENT: Kind = 4;
/// A text made with one.
const JOINED: Kind = 8;
const ANY: Kind = MESSAGES | HOLDER | CONTENT | JOINED;
const TEXT: Kind = CONTENT | JOINED;

/// What contents have to fulfil so that they may be stood in for.
#[derive(Default, Debug)]
pub struct Rules {
    needles: Vec<String>,
    /// Characters that are stripped besides white space.
    stripped: String,
}

impl Rules {
    pub fn fits(&self, content: &str) -> bool {
        let strips = |c: char| python::is_space(c) || self.stripped.contains(c);
        content.len() >= BYTES_MIN
            && content.len() - content.trim_start_matches(strips).len() <= STRIPPED_MAX
            && content.len() - content.trim_end_matches(strips).len() <= STRIPPED_MAX
            && self.needles.iter().all(|needle| memchr::memmem::find(content.as_bytes(), needle.as_bytes()).is_none())
    }
}

/// Why a template is refused.
pub type Refusal = &'static str;

pub fn prove(statements: &[Stmt<'_>]) -> Result<Rules, Refusal> {
    let mut proof = Proof::default();
    proof.names.insert("messages".to_string(), MESSAGES);
    // Kinds only grow, and there are few: soon nothing changes any more.
    loop {
        let before = proof.grown;
        let checked = proof.block(statements);
        if proof.grown == before {
            return checked.map(|()| proof.rules);
        }
        // A refusal may stop before all is seen, but what is refused stays refused.
        checked?;
        proof.rules = Rules::default();
    }
}

#[derive(Default)]
struct Proof {
    /// Variables that the template sets; all others are the caller's, and hold no content but "messages".
    names: HashMap<String, Kind>,
    /// Names that the template stores something under: `ns.name`, `namespace(name=…)`, `{"name": …}`.
    attributes: HashMap<String, Kind>,
    macros: Vec<String>,
    grown: usize,
    rules: Rules,
}

fn grow(map: &mut HashMap<String, Kind>, name: &str, kind: Kind, grown: &mut usize) {
    let known = map.entry(name.to_string()).or_insert_with(|| {
        *grown += 1;
        FREE
    });
    if *known | kind != *known {
        *known |= kind;
        *grown += 1;
    }
}

/// A constant text, short enough to stay within an edge.
fn constant<'e>(expr: &'e Expr<'_>) -> Option<&'e str> {
    match expr {
        Expr::Const(one) => one.value.as_str().filter(|text| text.len() <= CONSTANT_MAX && !text.contains('\u{1}')),
        _ => None,
    }
}

/// Constants are parsed before they are folded: lists of them are lists.
fn is_constant(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Const(one) => one.value.as_str().is_none_or(|text| text.len() < BYTES_MIN),
        Expr::List(list) => list.items.iter().all(is_constant),
        Expr::Tuple(tuple) => tuple.items.iter().all(is_constant),
        _ => false,
    }
}

fn is_number(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Const(one) => one.value.kind() == ValueKind::Number,
        Expr::UnaryOp(op) => matches!(op.op, UnaryOpKind::Neg),
        // On texts these are errors.
        Expr::BinOp(op) => matches!(op.op, BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv),
        _ => false,
    }
}

impl Proof {
    fn block(&mut self, statements: &[Stmt<'_>]) -> Result<(), Refusal> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), Refusal> {
        match statement {
            Stmt::Template(template) => self.block(&template.children)?,
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
            // Lists and mappings are written with quotes and escapes, which damages markers.
            Stmt::EmitExpr(emit) => {
                self.expr(&emit.expr)?;
            }
            Stmt::ForLoop(each) => {
                let kind = self.expr(&each.iter)?;
                if kind & TEXT != 0 || each.recursive {
                    return Err("it loops over a text's characters, or recursively");
                }
                let items = if kind & HOLDER != 0 { ANY } else { kind };
                self.assign(&each.target, items)?;
                if let Some(filter) = &each.filter_expr {
                    self.expr(filter)?;
                }
                self.block(&each.body)?;
                self.block(&each.else_body)?;
            }
            Stmt::IfCond(condition) => {
                self.expr(&condition.expr)?;
                self.block(&condition.true_body)?;
                self.block(&condition.false_body)?;
            }
            Stmt::WithBlock(block) => {
                for (target, value) in &block.assignments {
                    let kind = self.expr(value)?;
                    self.assign(target, kind)?;
                }
                self.block(&block.body)?;
            }
            Stmt::Set(set) => {
                let kind = self.expr(&set.expr)?;
                self.assign(&set.target, kind)?;
            }
            Stmt::SetBlock(block) if block.filter.is_none() => {
                self.assign(&block.target, JOINED)?;
                self.block(&block.body)?;
            }
            Stmt::Macro(declared) => {
                if !self.macros.iter().any(|name| name == declared.name) {
                    self.macros.push(declared.name.to_string());
                    self.grown += 1;
                }
                grow(&mut self.names, declared.name, FREE, &mut self.grown);
                for arg in &declared.args {
                    self.assign(arg, ANY)?;
                }
                for value in &declared.defaults {
                    self.expr(value)?;
                }
                self.block(&declared.body)?;
            }
            Stmt::Do(statement) => {
                self.call(&statement.call)?;
            }
            _ => return Err("it has a statement that was not looked into"),
        }
        Ok(())
    }

    fn assign(&mut self, target: &Expr<'_>, kind: Kind) -> Result<(), Refusal> {
        match target {
            Expr::Var(var) if var.id == "loop" => return Err("it names something 'loop'"),
            Expr::Var(var) => grow(&mut self.names, var.id, kind, &mut self.grown),
            Expr::GetAttr(access) => grow(&mut self.attributes, access.name, kind, &mut self.grown),
            // What is unpacked may be a mapping's pair: its name, and its value.
            Expr::List(list) => list.items.iter().try_for_each(|item| self.assign(item, unpacked(kind)))?,
            Expr::Tuple(tuple) => tuple.items.iter().try_for_each(|item| self.assign(item, unpacked(kind)))?,
            _ => return Err("it sets something that was not looked into"),
        }
        Ok(())
    }

    fn exprs<'e, 'a: 'e>(&mut self, all: impl IntoIterator<Item = &'e Expr<'a>>) -> Result<Kind, Refusal> {
        let mut kind = FREE;
        for expr in all {
            kind |= self.expr(expr)?;
        }
        Ok(kind)
    }

    fn expr(&mut self, expr: &Expr<'_>) -> Result<Kind, Refusal> {
        match expr {
            Expr::Const(_) => Ok(FREE),
            Expr::Var(var) => Ok(self.names.get(var.id).copied().unwrap_or(FREE)),
            Expr::GetAttr(access) => {
                let kind = self.expr(&access.expr)?;
                Ok(self.attribute(kind, access.name))
            }
            Expr::GetItem(access) => {
                let kind = self.expr(&access.expr)?;
                if let Expr::Const(name) = &access.subscript_expr {
                    if let Some(name) = name.value.as_str() {
                        return Ok(self.attribute(kind, name));
                    }
                }
                if let Expr::Call(call) = &access.expr {
                    if let (CallType::Method(subject, "split"), true) =
                        (call.identify_call(), is_number(&access.subscript_expr))
                    {
                        return self.expr(subject); // all of it: there was no needle in it
                    }
                }
                if self.expr(&access.subscript_expr)? != FREE || kind & TEXT != 0 {
                    return Err("it takes single characters of a text, or looks things up by it");
                }
                Ok(match kind {
                    FREE => FREE,
                    MESSAGES if is_number(&access.subscript_expr) => MESSAGES,
                    _ => ANY,
                })
            }
            Expr::Slice(slice) => {
                let kind = self.expr(&slice.expr)?;
                let places = self.exprs([&slice.start, &slice.stop, &slice.step].into_iter().flatten())?;
                if kind & TEXT != 0 || places != FREE {
                    return Err("it takes slices of a text");
                }
                Ok(kind)
            }
            Expr::UnaryOp(op) => match (self.expr(&op.expr)?, &op.op) {
                (_, UnaryOpKind::Not) | (FREE, _) => Ok(FREE),
                _ => Err("it computes with a text"),
            },
            Expr::BinOp(op) => self.bin_op(op.op, &op.left, &op.right),
            Expr::Compare(compare) => {
                let mut left = &compare.expr;
                for op in &compare.ops {
                    self.compare(op.op, left, &op.expr)?;
                    left = &op.expr;
                }
                Ok(FREE)
            }
            Expr::IfExpr(choice) => {
                self.expr(&choice.test_expr)?;
                self.exprs([Some(&choice.true_expr), choice.false_expr.as_ref()].into_iter().flatten())
            }
            Expr::Filter(filter) => self.filter(filter),
            Expr::Test(test) => self.test(test),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => Ok(held(self.exprs(&list.items)?)),
            Expr::Tuple(tuple) => Ok(held(self.exprs(&tuple.items)?)),
            Expr::Map(map) => {
                for (key, value) in map.keys.iter().zip(&map.values) {
                    let kind = self.expr(value)?;
                    match constant(key) {
                        Some(name) => grow(&mut self.attributes, name, kind, &mut self.grown),
                        None => return Err("it builds a mapping with computed names"),
                    }
                }
                Ok(held(self.exprs(&map.values)?))
            }
        }
    }

    /// `subject.name`.
    fn attribute(&self, subject: Kind, name: &str) -> Kind {
        if subject == FREE && name != "previtem" && name != "nextitem" {
            return FREE;
        }
        let stored = self.attributes.get(name).copied().unwrap_or(FREE);
        match name {
            "content" => stored | CONTENT,
            "previtem" | "nextitem" => ANY,
            _ => stored,
        }
    }

    fn bin_op(&mut self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Result<Kind, Refusal> {
        let compared = match op {
            BinOpKind::Eq => Some(CompareOpKind::Eq),
            BinOpKind::Ne => Some(CompareOpKind::Ne),
            BinOpKind::Lt => Some(CompareOpKind::Lt),
            BinOpKind::Lte => Some(CompareOpKind::Lte),
            BinOpKind::Gt => Some(CompareOpKind::Gt),
            BinOpKind::Gte => Some(CompareOpKind::Gte),
            BinOpKind::In => Some(CompareOpKind::In),
            _ => None,
        };
        if let Some(compared) = compared {
            self.compare(compared, left, right)?;
            return Ok(FREE);
        }
        let kind = self.expr(left)? | self.expr(right)?;
        match op {
            _ if kind == FREE => Ok(FREE),
            BinOpKind::ScAnd | BinOpKind::ScOr => Ok(kind),
            // Lists are added to lists only, and texts to texts.
            BinOpKind::Add if kind & (MESSAGES | HOLDER) == 0 => Ok(JOINED),
            BinOpKind::Add => Ok(if kind & TEXT == 0 { HOLDER } else { ANY }),
            BinOpKind::Concat => Ok(JOINED),
            _ => Err("it computes with a text"),
        }
    }

    fn compare(&mut self, op: CompareOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Result<(), Refusal> {
        let kinds = (self.expr(left)?, self.expr(right)?);
        match op {
            _ if kinds == (FREE, FREE) => Ok(()),
            CompareOpKind::Eq | CompareOpKind::Ne if is_constant(left) || is_constant(right) => Ok(()),
            CompareOpKind::In | CompareOpKind::NotIn if is_constant(right) => Ok(()),
            CompareOpKind::In | CompareOpKind::NotIn => match constant(left) {
                Some(needle) => {
                    // Among a mapping's names or a list's items a constant is found or not whatever stands for contents.
                    if kinds.1 & TEXT != 0 {
                        self.needle(needle);
                    }
                    Ok(())
                }
                None => Err("it searches a text for what is not a constant"),
            },
            _ => Err("it compares a text with what is not a constant"),
        }
    }

    fn needle(&mut self, needle: &str) {
        if !self.rules.needles.iter().any(|known| known == needle) {
            self.rules.needles.push(needle.to_string());
        }
    }

    fn args(&mut self, args: &[CallArg<'_>]) -> Result<Kind, Refusal> {
        let mut kind = FREE;
        for arg in args {
            match arg {
                CallArg::Pos(expr) | CallArg::Kwarg(_, expr) => kind |= self.expr(expr)?,
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => return Err("it passes on a list of arguments"),
            }
        }
        Ok(kind)
    }

    /// Characters to strip: white space without an argument, else a constant's.
    fn strips(&mut self, args: &[CallArg<'_>]) -> Result<(), Refusal> {
        match args {
            [] => Ok(()),
            [CallArg::Pos(expr)] if constant(expr).is_some() => {
                self.rules.stripped.push_str(constant(expr).unwrap_or_default());
                Ok(())
            }
            _ => Err("it strips what is not a constant off a text"),
        }
    }

    fn filter(&mut self, filter: &Filter<'_>) -> Result<Kind, Refusal> {
        let Some(subject) = &filter.expr else { return Err("it filters blocks") };
        let kind = self.expr(subject)?;
        let args = self.args(&filter.args)?;
        let is_list = kind & TEXT == 0;
        match filter.name {
            _ if kind | args == FREE => Ok(FREE),
            "default" | "d" => Ok(kind | args),
            _ if args != FREE => Err("it passes a text to a filter"),
            "trim" => self.strips(&filter.args).map(|()| kind),
            // Ours is an error where it meets a marker.
            "tojson" => Ok(FREE),
            "string" => Ok(if is_list { JOINED } else { kind | JOINED }),
            "length" | "count" if is_list => Ok(FREE),
            "list" | "reverse" if is_list => Ok(kind),
            "first" | "last" if is_list => Ok(if kind == MESSAGES { MESSAGES } else { ANY }),
            "items" => Ok(HOLDER),
            "join" if is_list => Ok(JOINED),
            "selectattr" | "rejectattr" if kind == MESSAGES => match filter.args.first() {
                Some(CallArg::Pos(name)) => match constant(name) {
                    Some(name) if name != "content" && !self.attributes.contains_key(name) => Ok(MESSAGES),
                    _ => Err("it chooses messages by their content"),
                },
                _ => Err("it chooses messages by their content"),
            },
            _ => Err("it passes a text through a filter that was not looked into"),
        }
    }

    fn test(&mut self, test: &Test<'_>) -> Result<Kind, Refusal> {
        let kind = self.expr(&test.expr)?;
        let args = self.args(&test.args)?;
        let of_type =
            ["defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "boolean"]
                .contains(&test.name)
                || ["true", "false", "integer", "float", "callable"].contains(&test.name);
        match of_type || kind | args == FREE {
            true => Ok(FREE),
            false => Err("it tests a text in a way that was not looked into"),
        }
    }

    fn call(&mut self, call: &Call<'_>) -> Result<Kind, Refusal> {
        match call.identify_call() {
            CallType::Method(subject, name) => self.method(subject, name, &call.args),
            CallType::Function(name) => {
                let kind = self.args(&call.args)?;
                if self.macros.iter().any(|known| known == name) {
                    return Ok(JOINED);
                }
                match name {
                    _ if self.names.contains_key(name) => Err("it calls what it was given"),
                    "namespace" | "dict" => {
                        for arg in &call.args {
                            let CallArg::Kwarg(name, value) = arg else {
                                return Err("it copies a namespace");
                            };
                            let kind = self.expr(value)?;
                            grow(&mut self.attributes, name, kind, &mut self.grown);
                        }
                        // It may be given contents later on.
                        Ok(HOLDER)
                    }
                    "raise_exception" => Ok(FREE), // an error: rendered again, in full
                    _ if kind == FREE => Ok(FREE),
                    _ => Err("it passes a text to a function"),
                }
            }
            _ => Err("it calls something computed"),
        }
    }

    fn method(&mut self, subject: &Expr<'_>, name: &str, args: &[CallArg<'_>]) -> Result<Kind, Refusal> {
        let kind = self.expr(subject)?;
        let given = self.args(args)?;
        if kind | given == FREE {
            return Ok(FREE);
        }
        if given != FREE {
            return Err("it passes a text to a method");
        }
        let first = match args.first() {
            Some(CallArg::Pos(expr)) => constant(expr),
            _ => None,
        };
        match (name, first) {
            ("strip" | "lstrip" | "rstrip", _) => self.strips(args).map(|()| kind),
            ("startswith" | "endswith", Some(_)) if args.len() == 1 => Ok(FREE),
            ("split", Some(needle)) if kind == CONTENT && !needle.is_empty() => {
                self.needle(needle);
                Ok(HOLDER)
            }
            ("replace", Some(needle)) if kind == CONTENT && !needle.is_empty() => {
                self.needle(needle);
                Ok(kind)
            }
            ("get", Some(name)) if kind & TEXT == 0 => Ok(self.attribute(kind, name)),
            ("items" | "values", _) if kind & TEXT == 0 => Ok(HOLDER),
            ("keys", _) if kind & TEXT == 0 => Ok(FREE),
            _ => Err("it calls a method of a text that was not looked into"),
        }
    }
}

fn unpacked(kind: Kind) -> Kind {
    if kind == FREE {
        FREE
    } else {
        ANY
    }
}

fn held(kind: Kind) -> Kind {
    if kind == FREE {
        FREE
    } else {
        HOLDER
    }
}
