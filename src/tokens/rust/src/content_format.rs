//! Does a template loop over the parts of a message's content (OpenAI's form), or take it as one text?
//!
//! vLLM 0.32 decides this from the template's syntax tree and shapes every message after it, so a router has to come
//! to the same answer. The search is by name, not by scope, as theirs is: variables that hold `messages`, loops over
//! them, then loops over such an item's `content`, directly or through a macro's parameter.

use std::collections::HashSet;

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFormat {
    /// Content is one text.
    Text,
    /// Content is a list of parts.
    Parts,
}

struct Loop<'t, 'a> {
    target: &'t Expr<'a>,
    iter: &'t Expr<'a>,
    /// Parameters that receive some message's content; none outside of macros.
    macro_index: Option<usize>,
}

struct MacroSeen<'t, 'a> {
    name: &'a str,
    parameters: Vec<&'t str>,
}

struct Call<'t, 'a> {
    name: &'a str,
    args: &'t [CallArg<'a>],
}

#[derive(Default)]
struct Found<'t, 'a> {
    loops: Vec<Loop<'t, 'a>>,
    sets: Vec<(&'t Expr<'a>, &'t Expr<'a>)>,
    macros: Vec<MacroSeen<'t, 'a>>,
    calls: Vec<Call<'t, 'a>>,
}

/// The template uses a form that the search cannot follow: vLLM then takes the content as one text.
struct Lost;

pub fn detect(statements: &[Stmt<'_>]) -> ContentFormat {
    let mut found = Found::default();
    collect(statements, None, &mut found);
    match has_content_loop(&found) {
        Ok(true) => ContentFormat::Parts,
        Ok(false) | Err(Lost) => ContentFormat::Text,
    }
}

fn name_of<'a>(target: &Expr<'a>) -> Result<&'a str, Lost> {
    match target {
        Expr::Var(var) => Ok(var.id),
        _ => Err(Lost),
    }
}

fn is_name(expr: &Expr<'_>, name: &str) -> bool {
    matches!(expr, Expr::Var(var) if var.id == name)
}

/// `name`, or with a key `name.key` and `name["key"]`; filters, tests and slices of it count as well.
fn reaches(expr: &Expr<'_>, name: &str, key: Option<&str>) -> bool {
    match (expr, key) {
        (Expr::Filter(filter), _) => filter.expr.as_ref().is_some_and(|inner| reaches(inner, name, key)),
        (Expr::Test(test), _) => reaches(&test.expr, name, key),
        (Expr::Slice(slice), _) => reaches(&slice.expr, name, key),
        (Expr::GetAttr(access), Some(key)) => is_name(&access.expr, name) && access.name == key,
        (Expr::GetItem(access), Some(key)) => {
            is_name(&access.expr, name)
                && matches!(&access.subscript_expr, Expr::Const(c) if c.value.as_str() == Some(key))
        }
        (_, None) => is_name(expr, name),
        _ => false,
    }
}

fn has_content_loop(found: &Found<'_, '_>) -> Result<bool, Lost> {
    let mut holders = vec!["messages"];
    let mut known = HashSet::from(["messages"]);
    let mut next = 0;
    while next < holders.len() {
        for (target, value) in &found.sets {
            if reaches(value, holders[next], None) {
                let name = name_of(target)?;
                if known.insert(name) {
                    holders.push(name);
                }
            }
        }
        next += 1;
    }
    let mut items = Vec::new();
    for each in &found.loops {
        if holders.iter().any(|holder| reaches(each.iter, holder, None)) {
            items.push(name_of(each.target)?);
        }
    }
    let is_content = |expr: &Expr<'_>| items.iter().any(|item| reaches(expr, item, Some("content")));
    let parameters: Vec<HashSet<&str>> =
        found.macros.iter().map(|seen| content_parameters(seen, &found.calls, &is_content)).collect();
    for each in &found.loops {
        let named = match each.iter {
            Expr::Var(var) => Some(var.id),
            _ => None,
        };
        let through_macro = match (named, each.macro_index) {
            (Some(name), Some(index)) => parameters[index].contains(name),
            _ => false,
        };
        let bare = each.macro_index.is_none() && named == Some("content");
        if is_content(each.iter) || through_macro || bare {
            name_of(each.target)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn content_parameters<'t>(
    seen: &MacroSeen<'t, '_>,
    calls: &[Call<'_, 't>],
    is_content: &dyn Fn(&Expr<'_>) -> bool,
) -> HashSet<&'t str> {
    let mut parameters = HashSet::new();
    for call in calls.iter().filter(|call| call.name == seen.name) {
        let mut position = 0;
        for arg in call.args {
            match arg {
                CallArg::Pos(expr) => {
                    if let Some(name) = seen.parameters.get(position).filter(|_| is_content(expr)) {
                        parameters.insert(*name);
                    }
                    position += 1;
                }
                CallArg::Kwarg(name, expr) if is_content(expr) && seen.parameters.contains(name) => {
                    parameters.insert(*name);
                }
                _ => {}
            }
        }
    }
    parameters
}

fn collect<'t, 'a: 't>(statements: &'t [Stmt<'a>], inside: Option<usize>, found: &mut Found<'t, 'a>) {
    for statement in statements {
        collect_one(statement, inside, found);
    }
}

fn collect_one<'t, 'a: 't>(statement: &'t Stmt<'a>, inside: Option<usize>, found: &mut Found<'t, 'a>) {
    match statement {
        Stmt::Template(template) => collect(&template.children, inside, found),
        Stmt::EmitExpr(emit) => collect_calls(&emit.expr, found),
        Stmt::ForLoop(each) => {
            found.loops.push(Loop { target: &each.target, iter: &each.iter, macro_index: inside });
            collect_calls(&each.iter, found);
            if let Some(filter) = &each.filter_expr {
                collect_calls(filter, found);
            }
            collect(&each.body, inside, found);
            collect(&each.else_body, inside, found);
        }
        Stmt::IfCond(condition) => {
            collect_calls(&condition.expr, found);
            collect(&condition.true_body, inside, found);
            collect(&condition.false_body, inside, found);
        }
        Stmt::WithBlock(block) => {
            for (_, value) in &block.assignments {
                collect_calls(value, found);
            }
            collect(&block.body, inside, found);
        }
        Stmt::Set(set) => {
            found.sets.push((&set.target, &set.expr));
            collect_calls(&set.expr, found);
        }
        Stmt::SetBlock(block) => collect(&block.body, inside, found),
        Stmt::AutoEscape(block) => collect(&block.body, inside, found),
        Stmt::FilterBlock(block) => collect(&block.body, inside, found),
        Stmt::Block(block) => collect(&block.body, inside, found),
        Stmt::Macro(declared) => {
            let parameters = declared.args.iter().filter_map(|arg| name_of(arg).ok()).collect();
            found.macros.push(MacroSeen { name: declared.name, parameters });
            let index = found.macros.len() - 1;
            collect(&declared.body, Some(index), found);
        }
        Stmt::CallBlock(block) => {
            collect_call(&block.call, found);
            collect(&block.macro_decl.body, inside, found);
        }
        Stmt::Do(statement) => collect_call(&statement.call, found),
        _ => {}
    }
}

fn collect_call<'t, 'a: 't>(call: &'t minijinja::machinery::ast::Call<'a>, found: &mut Found<'t, 'a>) {
    if let Expr::Var(var) = &call.expr {
        found.calls.push(Call { name: var.id, args: &call.args });
    } else {
        collect_calls(&call.expr, found);
    }
    collect_args(&call.args, found);
}

fn collect_args<'t, 'a: 't>(args: &'t [CallArg<'a>], found: &mut Found<'t, 'a>) {
    for arg in args {
        match arg {
            CallArg::Pos(expr) | CallArg::Kwarg(_, expr) | CallArg::PosSplat(expr) | CallArg::KwargSplat(expr) => {
                collect_calls(expr, found)
            }
        }
    }
}

fn collect_calls<'t, 'a: 't>(expr: &'t Expr<'a>, found: &mut Found<'t, 'a>) {
    match expr {
        Expr::Var(_) | Expr::Const(_) => {}
        Expr::Call(call) => collect_call(call, found),
        Expr::Slice(slice) => {
            collect_calls(&slice.expr, found);
            for part in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                collect_calls(part, found);
            }
        }
        Expr::UnaryOp(op) => collect_calls(&op.expr, found),
        Expr::BinOp(op) => {
            collect_calls(&op.left, found);
            collect_calls(&op.right, found);
        }
        Expr::Compare(compare) => {
            collect_calls(&compare.expr, found);
            for op in &compare.ops {
                collect_calls(&op.expr, found);
            }
        }
        Expr::IfExpr(choice) => {
            collect_calls(&choice.test_expr, found);
            collect_calls(&choice.true_expr, found);
            if let Some(other) = &choice.false_expr {
                collect_calls(other, found);
            }
        }
        Expr::Filter(filter) => {
            if let Some(inner) = &filter.expr {
                collect_calls(inner, found);
            }
            collect_args(&filter.args, found);
        }
        Expr::Test(test) => {
            collect_calls(&test.expr, found);
            collect_args(&test.args, found);
        }
        Expr::GetAttr(access) => collect_calls(&access.expr, found),
        Expr::GetItem(access) => {
            collect_calls(&access.expr, found);
            collect_calls(&access.subscript_expr, found);
        }
        Expr::List(list) => list.items.iter().for_each(|item| collect_calls(item, found)),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| collect_calls(item, found)),
        Expr::Map(map) => {
            map.keys.iter().chain(&map.values).for_each(|item| collect_calls(item, found));
        }
    }
}
