//! What a policy is and which parameters it takes. Filled from the BTF of the policy's object file (room `bpf`).

use serde::Serialize;

/// A policy as its object file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicySchema {
    /// The name used in policy lines: that of the object file and of its `struct NAME_params`.
    pub name: String,
    /// One sentence: what the policy is for.
    pub doc: String,
    /// True when the policy only ever binds the asker itself; annotations may ask for no other kind.
    pub self_binding: bool,
    /// The hooks it wants, by their names in the design: `growth`, `charge`, `reclaim`, …
    pub hooks: Vec<String>,
    /// Parameters in the order of the struct's members.
    pub params: Vec<ParamSchema>,
    /// Size of `struct NAME_params` in bytes.
    pub size: usize,
}

/// One member of `struct NAME_params`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParamSchema {
    /// The key in the policy line.
    pub name: String,
    /// Its type, from the member's typedef.
    pub kind: ParamKind,
    /// Byte offset in the struct.
    #[serde(skip)]
    pub offset: usize,
    /// Width in bytes: 8, or 4 for enumerations.
    #[serde(skip)]
    pub width: usize,
    /// One sentence of effect.
    pub doc: String,
    /// The default, as text; `None` if the parameter is required.
    pub default: Option<String>,
    /// `LOW..HIGH` as text in the parameter's own notation; either side may be missing.
    pub range: Option<String>,
}

/// How a parameter's text becomes bytes. Everything is little or big endian as the machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParamKind {
    /// `memcg_bpf_bytes`: `64K`, `1.5G` → bytes.
    Bytes,
    /// `memcg_bpf_size`: bytes, or a percentage of the effective maximum stored as [`SIZE_IS_PPM`] | ppm.
    Size,
    /// `memcg_bpf_ppm`: `40%`, `0.5%` → parts per million.
    Ppm,
    /// `memcg_bpf_ns`: `250ms`, `2s`, `1min` → nanoseconds.
    Duration,
    /// `memcg_bpf_count`: an integer.
    Count,
    /// `memcg_bpf_bool`: yes/no, true/false, on/off, 1/0 → 1 or 0.
    Bool,
    /// An `enum`: words and their values. The word is the enumerator without its common prefix, in lower case, `_` as `-`.
    Choice(Vec<(String, i64)>),
}

/// Marks a [`ParamKind::Size`] value as parts per million of the effective maximum (same constant in `memcg_bpf.h`).
pub const SIZE_IS_PPM: u64 = 1 << 63;
