//! Turns a condition's text into a planned expression, by the server's own parser and planner.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::kind::ConditionKind;
use crate::pg::descriptor::{attribute, is_virtual};
use crate::pg::list::cells;
use crate::pg::report::{sql_error, SqlResult};

/// A condition in the executor's form, in the current memory context.
pub(super) struct Planned {
    pub(super) expression: *mut pg_sys::Expr,
    pub(super) depends_on_settings: bool,
}

/// Parses a condition under the current search_path. The server itself refuses what is forbidden in a trigger's WHEN:
/// subqueries, aggregates, window functions, set-returning functions, and whatever is not boolean.
///
/// # Safety
/// `relation` is open and locked.
pub(super) unsafe fn parse(
    kind: ConditionKind,
    text: &str,
    relation: pg_sys::Relation,
) -> SqlResult<*mut pg_sys::Node> {
    let source = CString::new(text).unwrap_or_default();
    let argument = CString::new(kind.word()).unwrap_or_default();
    // SAFETY: the server makes the expression of a trigger's WHEN in the same steps. The texts outlive them.
    unsafe {
        let statements = pg_sys::raw_parser(source.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR);
        let expression = single_expression(statements).ok_or_else(|| {
            sql_error(
                PgSqlErrorCode::ERRCODE_SYNTAX_ERROR,
                "it is not a single expression",
                "Write one condition as after WHERE, and nothing else; join conditions by AND and OR.",
            )
        })?;
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        (*state).p_sourcetext = source.as_ptr();
        let item = pg_sys::addRangeTableEntryForRelation(
            state,
            relation,
            pg_sys::AccessShareLock as i32,
            std::ptr::null_mut(),
            false,
            false,
        );
        pg_sys::addNSItemToQuery(state, item, false, true, true);
        let place = pg_sys::ParseExprKind::EXPR_KIND_TRIGGER_WHEN;
        let expression = pg_sys::transformExpr(state, expression, place);
        let condition = pg_sys::coerce_to_boolean(state, expression, argument.as_ptr());
        pg_sys::assign_expr_collations(state, condition);
        Ok(condition)
    }
}

/// The expression of a statement that consists of nothing else: in this mode, the parser accepts everything that can
/// follow SELECT.
///
/// # Safety
/// `statements` is what the raw parser returns in that mode.
unsafe fn single_expression(statements: *mut pg_sys::List) -> Option<*mut pg_sys::Node> {
    // SAFETY: each cast follows the node's own tag.
    unsafe {
        let [statement] = cells(statements) else {
            return None;
        };
        let statement = (*statement.ptr_value.cast::<pg_sys::RawStmt>()).stmt;
        if (*statement).type_ != pg_sys::NodeTag::T_SelectStmt {
            return None;
        }
        let select = &*statement.cast::<pg_sys::SelectStmt>();
        let lists = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ];
        let nodes = [select.whereClause, select.havingClause, select.limitOffset, select.limitCount];
        let is_plain = lists.iter().all(|list| list.is_null())
            && nodes.iter().all(|node| node.is_null())
            && select.intoClause.is_null()
            && select.withClause.is_null()
            && select.op == pg_sys::SetOperation::SETOP_NONE;
        let [target] = cells(select.targetList) else {
            return None;
        };
        let target = &*target.ptr_value.cast::<pg_sys::ResTarget>();
        (is_plain && target.name.is_null() && target.indirection.is_null() && !is_star(target.val))
            .then_some(target.val)
    }
}

/// Whether a target is `*`, which is no expression.
///
/// # Safety
/// `node` is a valid node or null.
unsafe fn is_star(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as in `single_expression`; the fields of a column reference are nodes.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_ColumnRef {
            return false;
        }
        cells((*node.cast::<pg_sys::ColumnRef>()).fields)
            .iter()
            .any(|field| (*field.ptr_value.cast::<pg_sys::Node>()).type_ == pg_sys::NodeTag::T_A_Star)
    }
}

impl Planned {
    /// Checks which columns a condition uses, and plans it. `place` maps a column's place in the relation to its place
    /// in the rows.
    ///
    /// # Safety
    /// `condition` was parsed for `relation`, which is open.
    pub(super) unsafe fn of(
        kind: ConditionKind,
        condition: *mut pg_sys::Node,
        relation: pg_sys::Relation,
        place: &impl Fn(usize) -> Option<usize>,
    ) -> SqlResult<Planned> {
        // SAFETY: the caller guarantees this. The list contains the condition's own variables, so changing them changes
        // the condition.
        unsafe {
            let mut has_foreign_types = false;
            for cell in cells(pg_sys::pull_var_clause(condition, 0)) {
                let variable = &mut *cell.ptr_value.cast::<pg_sys::Var>();
                let column = usize::try_from(i32::from(variable.varattno) - 1)
                    .map_err(|_| no_column(kind, variable))?;
                if is_virtual(attribute((*relation).rd_att, column)) {
                    return Err(refused(kind, "use a virtual generated column"));
                }
                has_foreign_types |= variable.vartype.to_u32() >= pg_sys::FirstNormalObjectId;
                let found = place(column).ok_or_else(|| no_column(kind, variable))?;
                variable.varattno = i16::try_from(found + 1).unwrap_or_default();
            }
            let (mut relations, mut functions) = (std::ptr::null_mut(), std::ptr::null_mut());
            let is_volatile = pg_sys::contain_volatile_functions(condition);
            let expression =
                pg_sys::expression_planner_with_deps(condition.cast(), &mut relations, &mut functions);
            if is_volatile || pg_sys::contain_volatile_functions(expression.cast()) {
                return Err(sql_error(
                    PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
                    format!("{} cannot call volatile functions", kind.with_article()),
                    "What is sent must depend only on the row. If the function is in fact STABLE or IMMUTABLE, declare it so.",
                ));
            }
            Ok(Planned {
                expression,
                depends_on_settings: has_foreign_types
                    || !functions.is_null()
                    || pg_sys::contain_mutable_functions(expression.cast()),
            })
        }
    }
}

/// The error of a variable that is not an ordinary column of the table.
fn no_column(kind: ConditionKind, variable: &pg_sys::Var) -> Box<crate::pg::report::SqlError> {
    match variable.varattno {
        0 => refused(kind, "use the row as a whole"),
        _ => refused(kind, "use system columns"),
    }
}

fn refused(kind: ConditionKind, what: &str) -> Box<crate::pg::report::SqlError> {
    sql_error(
        PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
        format!("{} cannot {what}", kind.with_article()),
        "Name the columns that it uses; they need not be allowed to leave the database.",
    )
}
