//! Policies and their parameters, as read from the BTF of policy objects by the module `bpf`.

use serde::Serialize;

/// A policy, as described by its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicySchema {
    /// The name used in policy lines, which is that of the object file and of its `struct NAME_params`.
    pub name: String,
    /// One sentence about the purpose of the policy.
    pub doc: String,
    /// True if the policy affects only the cgroup that requests it. By default, annotations may request only such
    /// policies.
    pub self_binding: bool,
    /// The hooks of the policy: `growth`, `charge`, `reclaim`, …
    pub hooks: Vec<String>,
    /// Parameters in the order of the struct's members.
    pub params: Vec<ParamSchema>,
    /// Size of `struct NAME_params` in bytes.
    pub size: usize,
}

/// One member of `struct NAME_params`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParamSchema {
    /// The key in policy lines.
    pub name: String,
    /// The type, from the member's typedef.
    pub kind: ParamKind,
    /// Byte offset in the struct.
    #[serde(skip)]
    pub offset: usize,
    /// Width in bytes: 8, or 4 for enumerations.
    #[serde(skip)]
    pub width: usize,
    /// One sentence about the effect of the parameter.
    pub doc: String,
    /// The default, as text; `None` if the parameter is required.
    pub default: Option<String>,
    /// `LOW..HIGH` in the notation of the parameter; either side may be empty.
    pub range: Option<String>,
}

/// The type of a parameter: how its text is stored. Numbers have the byte order of the machine.
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
