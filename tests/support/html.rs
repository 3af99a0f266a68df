//! A page as a browser parses it.

use std::collections::HashMap;

use html5ever::tendril::TendrilSink;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};

/// An element with what matters of it.
pub struct Element {
    pub name: String,
    pub attributes: HashMap<String, String>,
    /// Text in it and below it.
    pub text: String,
    /// Names of the elements directly in it.
    pub children: Vec<String>,
}

impl Element {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// All elements in the order of the document, which must be free of errors.
pub fn elements(page: &str) -> Vec<Element> {
    let dom = parse_document(RcDom::default(), ParseOpts::default()).one(page);
    let errors = dom.errors.borrow();
    assert!(errors.is_empty(), "{errors:?}");
    let mut elements = Vec::new();
    collect(&dom.document, &mut elements);
    elements
}

fn collect(node: &Handle, elements: &mut Vec<Element>) {
    if let NodeData::Element { name, attrs, .. } = &node.data {
        let pair = |attribute: &html5ever::Attribute| {
            (
                attribute.name.local.to_string(),
                attribute.value.to_string(),
            )
        };
        let children = node.children.borrow();
        let names = children.iter().filter_map(|child| match &child.data {
            NodeData::Element { name, .. } => Some(name.local.to_string()),
            _ => None,
        });
        elements.push(Element {
            name: name.local.to_string(),
            attributes: attrs.borrow().iter().map(pair).collect(),
            text: text(node),
            children: names.collect(),
        });
    }
    for child in node.children.borrow().iter() {
        collect(child, elements);
    }
}

fn text(node: &Handle) -> String {
    match &node.data {
        NodeData::Text { contents } => contents.borrow().to_string(),
        _ => node.children.borrow().iter().map(text).collect(),
    }
}
