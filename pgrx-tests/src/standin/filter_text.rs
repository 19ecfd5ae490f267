//! Parses `filters`.
//!
//! OR binds tighter than AND, and a disjunction contains neither conjunctions nor tests of different types.

use super::filter::{refuse, tag_item, Comparison, Condition, Kind, Test};
use super::reply::Refusal;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Colon,
    Compare(Comparison),
    Word(String),
    Quoted(String),
}

/// Parses a `filters` string.
pub(super) fn parse(text: &str) -> Result<Condition, Refusal> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    if parser.tokens.is_empty() {
        return Ok(Condition::default());
    }
    let condition = parser.conjunction()?;
    match parser.tokens.get(parser.at) {
        None => Ok(condition),
        Some(token) => Err(refuse(&format!("Unexpected token {token:?}, expected end of filter"))),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn eat(&mut self, token: &Token) -> bool {
        let found = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(found);
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        self.eat(&Token::Word(word.to_owned()))
    }

    fn next(&mut self) -> Result<Token, Refusal> {
        let token = self.tokens.get(self.at).cloned().ok_or_else(|| refuse("Unexpected end of filter"))?;
        self.at += 1;
        Ok(token)
    }

    fn conjunction(&mut self) -> Result<Condition, Refusal> {
        let mut all = self.disjunction()?;
        while self.eat_word("AND") {
            all.and(self.disjunction()?);
        }
        Ok(all)
    }

    fn disjunction(&mut self) -> Result<Condition, Refusal> {
        let mut operands = vec![self.operand()?];
        while self.eat_word("OR") {
            operands.push(self.operand()?);
        }
        if operands.len() == 1 {
            return Ok(operands.pop().unwrap_or_default());
        }
        if operands.iter().any(|operand| operand.0.len() > 1) {
            return Err(refuse("filter (X AND Y) OR Z is not allowed, only (X OR Y) AND Z is allowed"));
        }
        let clause: Vec<Test> = operands.into_iter().flat_map(|operand| operand.0).flatten().collect();
        let facets = clause.iter().filter(|test| matches!(test.kind, Kind::Facet(_))).count();
        if facets != 0 && facets != clause.len() {
            return Err(refuse("Different types are not allowed in the same OR."));
        }
        Ok(Condition(vec![clause]))
    }

    fn operand(&mut self) -> Result<Condition, Refusal> {
        if self.eat_word("NOT") {
            if self.eat(&Token::Open) {
                return Err(refuse("NOT is only allowed before a single filter"));
            }
            let mut test = self.test()?;
            test.negated = !test.negated;
            return Ok(Condition(vec![vec![test]]));
        }
        if self.eat(&Token::Open) {
            let inner = self.conjunction()?;
            return if self.eat(&Token::Close) { Ok(inner) } else { Err(refuse("a ')' is missing")) };
        }
        Ok(Condition(vec![vec![self.test()?]]))
    }

    fn test(&mut self) -> Result<Test, Refusal> {
        let attribute = match self.next()? {
            Token::Word(word) | Token::Quoted(word) => word,
            token => return Err(refuse(&format!("Unexpected token {token:?}"))),
        };
        let kind = match self.tokens.get(self.at).cloned() {
            Some(Token::Colon) => {
                self.at += 1;
                self.after_colon()?
            }
            Some(Token::Compare(comparison)) => {
                self.at += 1;
                Kind::Number(comparison, self.number()?)
            }
            // A lone word is a tag.
            _ => return tag_item(&attribute),
        };
        Ok(Test { negated: false, attribute, kind })
    }

    fn after_colon(&mut self) -> Result<Kind, Refusal> {
        match self.next()? {
            Token::Quoted(value) => Ok(Kind::Facet(value)),
            Token::Word(value) if self.eat_word("TO") => {
                let low = value.parse().map_err(|_| refuse("a number is expected before TO"))?;
                Ok(Kind::Range(low, self.number()?))
            }
            Token::Word(value) => Ok(Kind::Facet(
                value.split_once("<score=").map_or(value.as_str(), |found| found.0).to_owned(),
            )),
            token => Err(refuse(&format!("Unexpected token {token:?}"))),
        }
    }

    fn number(&mut self) -> Result<f64, Refusal> {
        match self.next()? {
            Token::Word(word) if !word.contains(['e', 'E']) => {
                word.parse().map_err(|_| refuse(&format!("'{word}' is not a number")))
            }
            token => Err(refuse(&format!("a number is expected, not {token:?}"))),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, Refusal> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ':' => (Token::Colon, 1),
            '"' | '\'' => quoted(rest, first)?,
            '<' | '>' | '=' | '!' => {
                let length = if rest.get(1..2) == Some("=") { 2 } else { 1 };
                let comparison = rest.get(..length).and_then(Comparison::parse);
                (Token::Compare(comparison.ok_or_else(|| refuse("Unexpected token '!'"))?), length)
            }
            _ => {
                // A value may contain characters that would end an attribute's name.
                let value = found.last() == Some(&Token::Colon);
                let ends = |c: char| {
                    c.is_whitespace()
                        || c == ')'
                        || (!value && matches!(c, '(' | ':' | '<' | '>' | '=' | '!'))
                };
                let length = rest.find(ends).unwrap_or(rest.len());
                (Token::Word(rest.get(..length).unwrap_or(rest).to_owned()), length)
            }
        };
        found.push(token);
        rest = rest.get(length..).unwrap_or("").trim_start();
    }
    Ok(found)
}

fn quoted(text: &str, quote: char) -> Result<(Token, usize), Refusal> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => value.extend(characters.next().map(|next| next.1)),
            c if c == quote => return Ok((Token::Quoted(value), at + 1)),
            c => value.push(c),
        }
    }
    Err(refuse("a quote is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Vec<usize> {
        parse(text).unwrap().0.iter().map(Vec::len).collect()
    }

    #[test]
    fn or_binds_tighter_than_and() {
        assert_eq!(shape("a:1 AND b:2 OR c:3"), [1, 2]);
        assert_eq!(shape("(a:1 OR b:2) AND NOT c:\"x AND y\" AND ts >= 5 AND ts:1 TO 2"), [2, 1, 1, 1]);
        assert_eq!(shape("hour:2026-11-20T13:00 AND (a:1 AND b:2)"), [1, 1, 1]);
    }

    #[test]
    fn what_algolia_refuses_is_refused() {
        for text in
            ["(a:1 AND b:2) OR c:3", "a:1 OR ts>5", "NOT (a:1)", "a:1 AND", "a:\"x", "ts > 1e9", "(a:1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
