#![allow(clippy::arithmetic_side_effects)]
//! 40 random arrangements of unit files: what `explain` and `check` say of them is what a second, simple model of systemd's
//! rules says. The model lists directories and keeps the first file of each name; it shares no code with the resolver.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::units::findings_in_unit_named;
use crate::cli::find::diagnose::diagnose_unit;
use crate::names::UnitName;
use crate::policy::fixture;

/// By precedence.
const DIRECTORIES: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];
/// A unit, the names whose drop-in directories apply to it in their order, and its files.
const UNITS: [(&str, &[&str], &[&str]); 3] = [
    ("web-a.service", &["web-a.service", "web-.service"], &["web-a.service"]),
    ("tpl@x.service", &["tpl@x.service", "tpl@.service"], &["tpl@x.service", "tpl@.service"]),
    ("web-a.slice", &["web-a.slice", "web-.slice"], &["web-a.slice"]),
];
const ALIAS: &str = "alt.service";
/// Assignments: the text of a file, and what it assigns.
const TEXTS: [(&str, &[&str]); 9] = [
    ("[S]\nX-MemoryBPFPolicy=deny limit=64M\n", &["2 deny limit=64M"]),
    ("[S]\nX-MemoryBPFPolicy=observe\n", &["2 observe"]),
    ("[S]\n\nX-MemoryBPFPolicy=deny limit=1G; observe\n", &["3 deny limit=1G; observe"]),
    ("[S]\nX-MemoryBPFPolicy=\n", &["2 "]),
    ("[S]\nX-MemoryBPFPolicy=none\n", &["2 none"]),
    (
        "[S]\nX-MemoryBPFPolicy=\nX-MemoryBPFPolicy=oom\nX-MemoryBPFPolicy=deny limit=2G\n",
        &["2 ", "3 oom", "4 deny limit=2G"],
    ),
    ("[X-MemoryBPF]\nPolicy=observe mode=dry-run\n", &["2 observe mode=dry-run"]),
    ("[Unit]\nX-MemoryBPFPolicy=oom\n[S]\n# X-MemoryBPFPolicy=observe\nX-MemoryMax=1\n", &[]),
    ("", &[]),
];
/// A file that is a link to /dev/null.
const NULL: usize = TEXTS.len();

/// A generator of numbers that are the same in each run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Path below the root → index in [`TEXTS`], or [`NULL`].
type Files = BTreeMap<String, usize>;

struct Arrangement {
    files: Files,
    alias: bool,
    masked: bool,
}

fn arrangement(seed: u64) -> Arrangement {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut files = Files::new();
    let alias = random.below(2) == 0;
    let masked = random.below(8) == 0;
    for (_, _, names) in UNITS {
        for name in names {
            let first = random.below(DIRECTORIES.len());
            // One with text, so that the unit exists, and sometimes another one that it hides.
            files.insert(format!("{}/{name}", DIRECTORIES[first]), random.below(7));
            if first < 3 && random.below(2) == 0 {
                files.insert(format!("{}/{name}", DIRECTORIES[3]), random.below(7));
            }
        }
    }
    let all = ["service", "slice", "web-b.service", ALIAS];
    let drop_ins = UNITS.iter().flat_map(|(_, names, _)| names.iter().copied()).chain(all);
    for name in drop_ins {
        for directory in DIRECTORIES {
            if random.below(3) == 0 {
                let number = (random.below(3) + 1) * 10;
                files.insert(format!("{directory}/{name}.d/{number}.conf"), random.below(NULL + 1));
            }
        }
    }
    Arrangement { files, alias, masked }
}

fn section(path: &str) -> &'static str {
    if path.contains("slice") { "[Slice]" } else { "[Service]" }
}

fn put(root: &Path, it: &Arrangement) {
    let link = |target: &str, path: &Path| {
        drop(fs::remove_file(path));
        symlink(target, path).unwrap();
    };
    for (number, (path, text)) in it.files.iter().enumerate() {
        let at = root.join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let Some((text, _)) = TEXTS.get(*text) else {
            link("/dev/null", &at);
            continue;
        };
        let text = text.replace("[S]", section(path));
        // Every fifth drop-in is a link to a file elsewhere.
        if number % 5 == 0 && path.ends_with(".conf") && !text.is_empty() {
            let name = format!("elsewhere-{number}");
            fs::write(root.join(&name), text).unwrap();
            link(&format!("/{name}"), &at);
        } else {
            fs::write(&at, text).unwrap();
        }
    }
    let etc = root.join(DIRECTORIES[0]);
    fs::create_dir_all(&etc).unwrap();
    if it.alias {
        link("web-a.service", &etc.join(ALIAS));
    }
    if it.masked {
        link("/dev/null", &etc.join("web-a.service"));
    }
}

/// An assignment of one policy, or of none.
#[derive(Clone)]
struct Assigned {
    text: String,
    at: String,
}

impl Assigned {
    fn policy(&self) -> &str {
        self.text.split(' ').next().unwrap()
    }
}

/// What the model says: sentences about effective, replaced and hidden assignments.
#[derive(Default)]
struct Model {
    effective: Vec<Assigned>,
    /// Assignment, how, and by which line.
    replaced: Vec<(Assigned, &'static str, String)>,
    hidden: Vec<String>,
}

/// The files of a unit: those with one name together, the effective one first.
fn groups(it: &Arrangement, unit: usize) -> Vec<Vec<String>> {
    let (name, drop_in_names, fragments) = UNITS[unit];
    let below = |names: Vec<String>| {
        let found = DIRECTORIES.iter().flat_map(move |at| {
            names.iter().map(move |name| format!("{at}/{name}")).collect::<Vec<String>>()
        });
        found.collect::<Vec<String>>()
    };
    let fragments = fragments.iter().flat_map(|name| below(vec![(*name).to_owned()]));
    let mut all = vec![fragments.filter(|path| it.files.contains_key(path)).collect()];
    let own = drop_in_names.iter().map(|name| format!("{name}.d")).collect();
    let mut directories = below(own);
    if it.alias && name == "web-a.service" {
        directories.extend(below(vec![format!("{ALIAS}.d")]));
    }
    let kind = name.rsplit('.').next().unwrap();
    directories.extend(below(vec![format!("{kind}.d")]));
    for file in ["10.conf", "20.conf", "30.conf"] {
        let paths = directories.iter().map(|directory| format!("{directory}/{file}"));
        all.push(paths.filter(|path| it.files.contains_key(path)).collect());
    }
    all
}

fn model(it: &Arrangement, unit: usize) -> Model {
    let mut model = Model::default();
    for group in groups(it, unit) {
        for (number, path) in group.iter().enumerate() {
            let assigned = TEXTS.get(it.files[path]).map_or(&[] as &[&str], |(_, assigned)| assigned);
            for (line, value) in assigned.iter().map(|text| text.split_once(' ').unwrap()) {
                if number == 0 {
                    model.assign(value, format!("/{path}:{line}"));
                } else {
                    let (by, name) = (&group[0], |path: &str| path.rsplit('/').next().unwrap().to_owned());
                    let why =
                        if name(by) == name(path) { "has the same name" } else { "replaces the template" };
                    model.hidden.push(format!("/{path}:{line}: '{value}' is masked by /{by}, which {why}."));
                }
            }
        }
    }
    model
}

impl Model {
    fn assign(&mut self, value: &str, at: String) {
        let new: Vec<Assigned> = value
            .split("; ")
            .filter(|text| !text.is_empty())
            .map(|text| Assigned { text: text.to_owned(), at: at.clone() })
            .collect();
        let resets = new.is_empty() || value == "none";
        let how = if resets { "reset" } else { "overridden" };
        let is_replaced =
            |old: &Assigned| resets || old.text == "none" || new.iter().any(|it| it.policy() == old.policy());
        let (gone, kept): (Vec<Assigned>, Vec<Assigned>) =
            std::mem::take(&mut self.effective).into_iter().partition(is_replaced);
        self.replaced.extend(gone.into_iter().map(|old| (old, how, at.clone())));
        self.effective = kept.into_iter().chain(new).collect();
    }
}

fn expected_of_explain(model: &Model) -> Vec<String> {
    let mut all = model.hidden.clone();
    let same =
        |a: &(Assigned, &str, String), b: &(Assigned, &str, String)| (&a.0.at, &a.2) == (&b.0.at, &b.2);
    all.extend(model.replaced.chunk_by(same).map(|group| {
        let texts: Vec<&str> = group.iter().map(|(old, ..)| old.text.as_str()).collect();
        let (old, how, by) = &group[0];
        format!("'{}' of {} is {how} by {by}.", texts.join("; "), old.at)
    }));
    all.extend(model.effective.iter().map(|it| format!("'{}' of {} is not known to", it.text, it.at)));
    all.sort();
    all
}

#[test]
fn explain_and_check_say_what_a_second_model_says() {
    let (catalog, mut effective, mut replaced, mut hidden) = (fixture::catalog(), 0, 0, 0);
    for seed in 1..=40 {
        let it = arrangement(seed);
        let root = tempfile::tempdir().unwrap();
        put(root.path(), &it);
        for (number, (name, ..)) in UNITS.iter().enumerate() {
            let unit = UnitName::parse(name).unwrap();
            let of =
                |name: &str| findings_in_unit_named(root.path(), &UnitName::parse(name).unwrap(), &catalog);
            let said = |name: &str| of(name).into_iter().map(|it| it.sentence).collect::<Vec<String>>();
            if it.masked && number == 0 {
                assert_eq!(said(name), ["web-a.service is masked"], "seed {seed}");
                continue;
            }
            let model = model(&it, number);
            let about = [" is masked by ", " is reset by ", " is overridden by ", " is not known to "];
            let mut explained: Vec<String> = diagnose_unit(root.path(), &unit, None)
                .into_iter()
                .filter(|message| about.iter().any(|part| message.contains(part)))
                .map(|text| text.split(" memcg-bpfd.").next().unwrap().to_owned())
                .collect();
            explained.sort();
            assert_eq!(explained, expected_of_explain(&model), "seed {seed}, {name}: {:#?}", it.files);

            let notes = model
                .replaced
                .iter()
                .map(|(old, how, by)| format!("{}: '{}' is {how} by {by}", old.at, old.text));
            let checked: Vec<String> = said(name)
                .into_iter()
                .filter(|text| about[1..3].iter().any(|part| text.contains(part)))
                .collect();
            assert_eq!(checked, notes.collect::<Vec<String>>(), "seed {seed}, {name}: {:#?}", it.files);
            if it.alias && number == 0 {
                assert_eq!(said(ALIAS), said(name), "seed {seed}");
            }
            effective += model.effective.len();
            replaced += model.replaced.len();
            hidden += model.hidden.len();
        }
    }
    // Each case occurs often.
    assert!(effective > 40 && replaced > 40 && hidden > 40, "{effective} {replaced} {hidden}");
}
