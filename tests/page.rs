//! Pages of images and of their differences: complete in themselves, safe whatever is in the image, and
//! fit for everybody. `make page-check` shows them to a browser.

#[path = "support/html.rs"]
mod html;
#[path = "support/workplace.rs"]
mod workplace;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use html::{Element, elements};
use workplace::{RSA, Workplace, build, sysgraft, text};

/// Names that an image may have and a page must not fall for.
const HOSTILE: [&str; 5] = [
    "<img src=x onerror=alert(1)>",
    "\"><script>alert(1)<",
    "</style></title></svg><svg onload=alert(1)>",
    "\u{202e}gpj.exe",
    "a\u{1b}]0;x\u{7}",
];

/// A tree with a bit of everything, hostile names among it.
fn tree(workplace: &Workplace, folder: &str) -> PathBuf {
    let root = workplace.path(folder);
    for (name, size) in [
        ("bin/large", 90_000),
        ("bin/small", 100),
        ("lib/a/b/c", 20_000),
    ] {
        let path = root.join("usr").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x".repeat(size)).unwrap();
    }
    for (number, name) in HOSTILE.iter().enumerate() {
        let path = root.join("usr/share").join(name.replace('/', "\\"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name.replace('/', "&")), "y".repeat(9000 + number)).unwrap();
    }
    root
}

fn image(workplace: &Workplace, root: &Path, folder: &str) -> PathBuf {
    fs::create_dir(workplace.path(folder)).unwrap();
    let source = format!("dir:{}", root.display());
    build(workplace, &[&RSA[..], &["sample", &source]].concat());
    let image = workplace.path(folder).join("sample.sysext.raw");
    fs::rename(workplace.out().join("sample.sysext.raw"), &image).unwrap();
    image
}

/// The page of one image, and that of its difference from another one.
fn pages(workplace: &Workplace) -> [String; 2] {
    let a = image(workplace, &tree(workplace, "a-root"), "a");
    let changed = tree(workplace, "b-root");
    fs::write(changed.join("usr/bin/small"), "z".repeat(4000)).unwrap();
    fs::write(changed.join("usr/bin/<b>new</b>".replace('/', "|")), "new").unwrap();
    fs::remove_dir_all(changed.join("usr/lib/a")).unwrap();
    let b = image(workplace, &changed, "b");
    let (one, two) = (workplace.path("one.html"), workplace.path("two.html"));
    let output = sysgraft(["inspect", "--html"]).args([&one, &a]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = sysgraft(["diff", "--html"]).args([&two, &a, &b]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    [one, two].map(|page| fs::read_to_string(page).unwrap())
}

#[test]
fn pages_load_nothing_run_nothing_and_are_fit_for_everybody() {
    for page in pages(&Workplace::new()) {
        let elements = elements(&page);
        loads_and_runs_nothing(&elements);
        links_lead_somewhere(&elements);
        has_the_basics_of_accessibility(&elements);
    }
}

fn named<'e>(elements: &'e [Element], name: &str) -> Vec<&'e Element> {
    elements
        .iter()
        .filter(|element| element.name == name)
        .collect()
}

fn loads_and_runs_nothing(elements: &[Element]) {
    const KNOWN: [&str; 47] = [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "a",
        "header",
        "nav",
        "main",
        "section",
        "footer",
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "ol",
        "li",
        "dl",
        "dt",
        "dd",
        "div",
        "span",
        "code",
        "svg",
        "rect",
        "text",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "strong",
        "em",
        "small",
        "br",
        "wbr",
        "hr",
        "b",
        "i",
        "figure",
        "figcaption",
        "bdi",
        "time",
    ];
    for element in elements {
        let name = element.name.as_str();
        assert!(KNOWN.contains(&name), "<{name}> in a page");
        for attribute in element.attributes.keys() {
            let is_active = attribute.starts_with("on");
            let loads = ["src", "srcset", "style", "action", "data", "xlink:href"];
            assert!(
                !is_active && !loads.contains(&attribute.as_str()),
                "{name} {attribute}"
            );
        }
        assert!(element.attribute("href").is_empty() || element.attribute("href").starts_with('#'));
    }
    let styles = named(elements, "style");
    assert_eq!(styles.len(), 1);
    assert!(!styles[0].text.contains("url(") && !styles[0].text.contains("@import"));
    let digest = openssl::base64::encode_block(&openssl::sha::sha256(styles[0].text.as_bytes()));
    let policy = elements
        .iter()
        .find(|element| element.attribute("http-equiv") == "Content-Security-Policy")
        .map(|element| element.attribute("content"))
        .unwrap();
    let only = format!("default-src 'none'; style-src 'sha256-{digest}';");
    assert!(policy.starts_with(&only), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

fn links_lead_somewhere(elements: &[Element]) {
    let all: Vec<&str> = elements
        .iter()
        .map(|element| element.attribute("id"))
        .collect();
    let all: Vec<&str> = all.into_iter().filter(|id| !id.is_empty()).collect();
    let ids: HashSet<&str> = all.iter().copied().collect();
    assert_eq!(ids.len(), all.len(), "an id is there twice");
    for link in named(elements, "a") {
        let target = link.attribute("href").trim_start_matches('#');
        assert!(ids.contains(target), "#{target}");
        assert!(
            !link.text.trim().is_empty(),
            "a link to #{target} without text"
        );
    }
    let labels = elements
        .iter()
        .map(|element| element.attribute("aria-labelledby"));
    for label in labels.filter(|label| !label.is_empty()) {
        assert!(ids.contains(label), "#{label}");
    }
}

fn has_the_basics_of_accessibility(elements: &[Element]) {
    assert_eq!(named(elements, "html")[0].attribute("lang"), "en");
    assert!(named(elements, "title")[0].text.contains("sample"));
    for landmark in ["header", "nav", "main", "footer", "h1"] {
        assert_eq!(named(elements, landmark).len(), 1, "{landmark}");
    }
    assert!(!named(elements, "nav")[0].attribute("aria-label").is_empty());
    let mut level = 0;
    for element in elements {
        if let Some(next) = element
            .name
            .strip_prefix('h')
            .and_then(|level| level.parse().ok())
        {
            assert!(next <= level + 1, "h{next} behind h{level}");
            assert!(!element.text.trim().is_empty());
            level = next;
        }
    }
    for table in named(elements, "table") {
        assert_eq!(table.children, ["caption", "thead", "tbody"]);
    }
    for heading in named(elements, "th") {
        assert!(
            ["row", "col"].contains(&heading.attribute("scope")),
            "{}",
            heading.text
        );
    }
    for drawing in named(elements, "svg") {
        let is_named =
            drawing.attribute("role") == "img" && !drawing.attribute("aria-label").is_empty();
        assert!(is_named || drawing.attribute("aria-hidden") == "true");
    }
}

#[test]
fn hostile_names_are_shown_and_nothing_else() {
    let workplace = Workplace::new();
    let [one, _] = pages(&workplace);
    assert!(!one.contains('\u{202e}') && !one.contains('\u{1b}'));
    let elements = elements(&one);
    let rows: Vec<&str> = named(&elements, "th")
        .iter()
        .map(|row| row.text.as_str())
        .collect();
    for shown in [
        "/usr/share/<img src=x onerror=alert(1)>/<img src=x onerror=alert(1)>",
        "/usr/share/\"><script>alert(1)</\"><script>alert(1)<",
        "/usr/share/\\u{202e}gpj.exe/\\u{202e}gpj.exe",
        "/usr/share/a\\u{1b}]0;x\\u{7}/a\\u{1b}]0;x\\u{7}",
    ] {
        assert!(rows.contains(&shown), "{shown}: {rows:#?}");
    }
}

#[test]
fn a_page_of_many_files_is_small() {
    let workplace = Workplace::new();
    let archive = workplace.path("many.tar");
    let mut tar = tar::Builder::new(fs::File::create(&archive).unwrap());
    for number in 0..30_000_u32 {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::from(number % 400));
        header.set_mode(0o644);
        let path = format!("usr/share/{}/{}/{number}", number % 40, number % 1000);
        let content = vec![b'x'; number as usize % 400];
        tar.append_data(&mut header, path, content.as_slice())
            .unwrap();
    }
    tar.finish().unwrap();
    build(&workplace, &["many", &format!("tar:{}", archive.display())]);
    let page = workplace.path("many.html");
    let output = sysgraft(["inspect", "--html"])
        .args([&page, &workplace.out().join("many.sysext.raw")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.len() < 1 << 20, "{}", page.len());
    assert!(page.contains("in 30,001 files"));
    assert!(page.contains("Not named: "));
    assert!(elements(&page).len() > 500);
}
