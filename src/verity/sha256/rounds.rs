//! What the kernels share of SHA-256: its constants, and its rounds over vectors of lanes.

/// The size of a message block, in bytes (FIPS 180-4, section 5.2.1).
pub const MESSAGE_BLOCK: usize = 64;

/// The initial hash value (FIPS 180-4, section 5.3.3).
pub const INITIAL: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

/// The constants of the 64 rounds (FIPS 180-4, section 4.2.2).
pub const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// Runs a step, a macro of one literal, 16 times: a loop whose index the compiler sees as a
/// constant, so that arrays which the step indexes by it stay in registers.
#[rustfmt::skip]
macro_rules! sixteen_times {
    ($step:ident) => {
        $step!(0); $step!(1); $step!(2); $step!(3);
        $step!(4); $step!(5); $step!(6); $step!(7);
        $step!(8); $step!(9); $step!(10); $step!(11);
        $step!(12); $step!(13); $step!(14); $step!(15);
    };
}

/// Defines `rounds`, the 64 rounds (FIPS 180-4, section 6.2.2) over vectors with a word of each
/// lane, for kernels without an instruction for a round. The file that invokes it brings the
/// functions of section 4.1.2, `add` and `splat` for such vectors.
#[cfg(target_arch = "x86_64")]
macro_rules! define_rounds {
    ($features:literal, $Vector:ty) => {
        #[target_feature(enable = $features)]
        fn rounds(mut s: [$Vector; 8], mut w: [$Vector; 16]) -> [$Vector; 8] {
            macro_rules! round {
                ($k:expr, $i:literal) => {
                    let [a, b, c, d, e, f, g, h] = s;
                    let t1 = add(
                        add(h, add(splat($k), w[$i])),
                        add(big_sigma_1(e), choose(e, f, g)),
                    );
                    let t2 = add(big_sigma_0(a), majority(a, b, c));
                    s = [add(t1, t2), a, b, c, add(d, t1), e, f, g];
                };
            }
            for k in K[..48].as_chunks::<16>().0 {
                macro_rules! round_and_schedule {
                    ($i:literal) => {
                        round!(k[$i], $i);
                        let recent = add(w[($i + 9) % 16], small_sigma_1(w[($i + 14) % 16]));
                        w[$i] = add(add(w[$i], small_sigma_0(w[($i + 1) % 16])), recent);
                    };
                }
                sixteen_times!(round_and_schedule);
            }
            macro_rules! last_round {
                ($i:literal) => {
                    round!(K[48 + $i], $i);
                };
            }
            sixteen_times!(last_round);
            s
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) use define_rounds;
pub(super) use sixteen_times;
