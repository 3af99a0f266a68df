//! What the kernels share of SHA-256: its constants, and its rounds over vectors of lanes.

/// The size of a message block, in bytes (FIPS 180-4, section 5.2.1).
pub const MESSAGE_BLOCK: usize = 64;

/// The initial hash value (FIPS 180-4, section 5.3.3).
pub const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The constants of the 64 rounds (FIPS 180-4, section 4.2.2).
#[rustfmt::skip]
pub const K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Runs a step, a macro of one literal, 16 times: a loop whose index the compiler sees as a
/// constant, so that arrays which the step indexes by it stay in registers.
macro_rules! sixteen_times {
    ($step:ident) => {
        $step!(0);
        $step!(1);
        $step!(2);
        $step!(3);
        $step!(4);
        $step!(5);
        $step!(6);
        $step!(7);
        $step!(8);
        $step!(9);
        $step!(10);
        $step!(11);
        $step!(12);
        $step!(13);
        $step!(14);
        $step!(15);
    };
}

/// Defines `rounds`, the 64 rounds (FIPS 180-4, section 6.2.2) over vectors with a word of each
/// lane, for kernels without an instruction of their own for a round. The file that invokes it has
/// the functions of sections 4.1.2 on such vectors.
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
