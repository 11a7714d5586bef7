//! A history that `memcg-bpf report` makes a page of. Somebody else may have sent it.

use memcg_bpf::cli::render_report;

use super::{place, sentence};

pub fn run(bytes: &[u8]) {
    let file = place().join("history");
    std::fs::write(&file, bytes).unwrap();
    let page = match render_report(&file) {
        Ok(page) => page,
        Err(error) => return sentence(&format!("{error:#}").replace(&*file.to_string_lossy(), "FILE"), 1024),
    };
    assert_eq!(page, render_report(&file).unwrap(), "the same history twice");
    // A sample makes points in seven lines of four plots; the page itself is four kilobytes.
    assert!(
        page.len() <= 16_384 + 50 * 16_384 + bytes.len() * 64,
        "{} bytes from {}",
        page.len(),
        bytes.len()
    );
    assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "control characters on the page");
    for tag in tags(&page) {
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        assert!(KNOWN.contains(&name.as_str()), "<{tag}>");
        // Links lead to a section of the page.
        let link = tag
            .strip_prefix("a ")
            .map(|rest| rest.strip_prefix("href=\"#c").and_then(|at| at.strip_suffix('"')));
        assert!(link.is_none_or(|at| at.is_some_and(|at| at.parse::<usize>().is_ok())), "<{tag}>");
        // Places in a plot are numbers.
        assert!(!tag.contains("NaN") || tag.contains("<title>"), "<{tag}>");
        assert!(!tag.contains("inf,") && !tag.contains(",inf"), "<{tag}>");
    }
    for element in ["svg", "section", "table", "tr", "td", "details", "summary", "path"] {
        let opened = page.matches(&format!("<{element}")).filter(|_| element != "path").count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "<{element}>");
    }
}

/// Every element that a page of ours has.
const KNOWN: [&str; 27] = [
    "", "a", "body", "code", "details", "footer", "g", "h1", "h2", "head", "html", "i", "line", "meta", "p",
    "path", "section", "span", "style", "summary", "svg", "table", "td", "text", "th", "title", "tr",
];

fn tags(page: &str) -> impl Iterator<Item = &str> {
    page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or(rest))
}
