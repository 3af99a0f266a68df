//! Which programs a CPU runs.

use object::elf::{
    EM_386, EM_AARCH64, EM_ALPHA, EM_ARC_COMPACT, EM_ARC_COMPACT2, EM_ARM, EM_IA_64, EM_LOONGARCH,
    EM_MIPS, EM_PARISC, EM_PPC, EM_PPC64, EM_RISCV, EM_S390, EM_TILEGX, EM_X86_64, Machine,
};

use super::Target;
use crate::architecture::Architecture;

/// Whether a machine of `architecture` runs programs for `target`, those of its 32-bit ancestor
/// included.
pub(in crate::lint) fn runs_on(target: Target, architecture: Architecture) -> bool {
    let Target {
        machine,
        is_64_bit,
        is_little_endian,
    } = target;
    let little = is_little_endian;
    match (architecture, Machine(machine)) {
        (Architecture::X86_64, EM_X86_64 | EM_386) | (Architecture::X86, EM_386) => little,
        (Architecture::Arm64, EM_AARCH64 | EM_ARM) | (Architecture::Arm, EM_ARM) => little,
        (Architecture::RiscV64, EM_RISCV) => is_64_bit,
        (Architecture::RiscV32, EM_RISCV) => !is_64_bit,
        (Architecture::LoongArch64, EM_LOONGARCH) => is_64_bit,
        (Architecture::Ppc64Le, EM_PPC64) => little,
        (Architecture::Ppc64, EM_PPC64 | EM_PPC) | (Architecture::Ppc, EM_PPC) => !little,
        (Architecture::S390x, EM_S390) => true,
        (Architecture::S390, EM_S390) => !is_64_bit,
        (Architecture::Mips64Le, EM_MIPS) => little,
        (Architecture::Mips64, EM_MIPS) => !little,
        (Architecture::MipsLe, EM_MIPS) => little && !is_64_bit,
        (Architecture::Mips, EM_MIPS) => !little && !is_64_bit,
        (Architecture::Ia64, EM_IA_64)
        | (Architecture::Parisc, EM_PARISC)
        | (Architecture::Alpha, EM_ALPHA)
        | (Architecture::Arc, EM_ARC_COMPACT | EM_ARC_COMPACT2)
        | (Architecture::TileGx, EM_TILEGX) => true,
        _ => false,
    }
}

/// What a machine is called.
pub(in crate::lint) fn machine_name(target: Target) -> String {
    let name = match Machine(target.machine) {
        EM_X86_64 => "x86-64",
        EM_386 => "x86",
        EM_AARCH64 => "arm64",
        EM_ARM => "arm",
        EM_RISCV => "riscv",
        EM_LOONGARCH => "loongarch64",
        EM_PPC64 => "ppc64",
        EM_PPC => "ppc",
        EM_S390 => "s390",
        EM_MIPS => "mips",
        Machine(other) => return format!("machine {other}"),
    };
    name.to_owned()
}
