//! YAML as people write it, from plain data.

use std::fmt::Write;

use serde_json::Value;

/// `value` as a YAML document, with `comment` above it.
pub fn render(comment: &[String], value: &Value) -> String {
    let mut text = String::new();
    for line in comment {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "# {line}");
    }
    write_value(&mut text, value, 0);
    text
}

/// Writes a value that begins on a line of its own.
fn write_value(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let _ = write!(text, "{indent}{}:", plain(key));
                write_behind(text, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut nested = String::new();
                write_value(&mut nested, item, depth + 1);
                // The dash takes the place of the first two blanks.
                let rest = nested.get(indent.len() + 2..).unwrap_or_default();
                let _ = write!(text, "{indent}- {rest}");
            }
        }
        scalar => {
            let _ = writeln!(text, "{indent}{}", scalar_text(scalar));
        }
    }
}

/// Writes a value behind its key.
fn write_behind(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            write_value(text, value, depth);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            write_value(text, value, depth);
        }
        Value::String(content) if is_block(content) => {
            text.push_str(" |\n");
            let indent = "  ".repeat(depth);
            for line in content.lines() {
                let _ = match line.is_empty() {
                    true => writeln!(text),
                    false => writeln!(text, "{indent}{line}"),
                };
            }
        }
        scalar => {
            let _ = writeln!(text, " {}", scalar_text(scalar));
        }
    }
}

/// Whether a text can be written as a literal block.
fn is_block(content: &str) -> bool {
    let is_plain = |c: char| c == '\n' || !c.is_control();
    content.ends_with('\n')
        && !content.starts_with([' ', '\n'])
        && !content.ends_with("\n\n")
        && content.chars().all(is_plain)
}

/// Strings in JSON's quotes, which are YAML's too, unless nothing in them could mean anything.
fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

fn plain(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    // Words that YAML takes for something else than a text.
    let is_taken = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
        .contains(&text.to_ascii_lowercase().as_str());
    match is_word && !is_taken {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_data_is_written_as_people_do() {
        let value = json!({
            "a": {"b": [{"c": "x", "d": 420}, ["1.2", true]], "e": []},
            "f": "one\n\ntwo: 2\n",
            "g": "no",
        });
        let expected = "\
# hello
a:
  b:
    - c: x
      d: 420
    - - \"1.2\"
      - true
  e: []
f: |
  one

  two: 2
g: \"no\"
";
        assert_eq!(render(&["hello".to_owned()], &value), expected);
    }
}
