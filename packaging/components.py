"""What is linked into the programs: crates, the C libraries that they build, and the target's own libraries."""
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field

REPOSITORY = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# Where Debian keeps licences, and what it says of its packages.
LICENCES, DEBIAN = '/usr/share/common-licenses/', '/usr/share/doc/%s/copyright'


@dataclass
class Component:
    name: str
    version: str
    licence: str  # SPDX expression
    folder: str | None  # its sources
    purl: str
    homepage: str | None = None
    sha256: str | None = None  # of the .crate file
    linked: bool = True  # or only run while compiling
    uses: set = field(default_factory=set)  # keys of other components
    licence_files: list = field(default_factory=list)

    @property
    def key(self):
        return self.name, self.version


@dataclass
class Library:
    """A C library whose sources come in a crate."""
    crate: str
    name: str
    sources: str  # in the crate
    version_file: str  # in the sources
    version: str  # pattern whose groups are the parts of the version
    licence: str
    licence_file: str  # in the sources
    homepage: str


LIBRARIES = [
    Library('openssl-src', 'openssl', 'openssl', 'VERSION.dat', r'(?s)MAJOR=(\d+).*?MINOR=(\d+).*?PATCH=(\d+)',
            'Apache-2.0', 'LICENSE.txt', 'https://www.openssl.org/'),
    Library('zstd-sys', 'zstd', 'zstd', 'lib/zstd.h', r'(?s)VERSION_MAJOR +(\d+).*?VERSION_MINOR +(\d+).*?VERSION_RELEASE +(\d+)',
            'BSD-3-Clause OR GPL-2.0-only', 'LICENSE', 'https://facebook.github.io/zstd/'),
    Library('lz4-sys', 'lz4', 'liblz4', 'lib/lz4.h', r'(?s)VERSION_MAJOR +(\d+).*?VERSION_MINOR +(\d+).*?VERSION_RELEASE +(\d+)',
            'BSD-2-Clause', 'lib/LICENSE', 'https://lz4.org/'),
    Library('liblzma-sys', 'liblzma', 'xz', 'src/liblzma/api/lzma/version.h', r'(?s)VERSION_MAJOR +(\d+).*?VERSION_MINOR +(\d+).*?VERSION_PATCH +(\d+)',
            '0BSD', 'COPYING.0BSD', 'https://tukaani.org/xz/'),
    Library('isal-sys', 'isa-l', 'isa-l', 'configure.ac', r'AC_INIT\(\[libisal\],\s*\[(\d+)\.(\d+)\.(\d+)\]',
            'BSD-3-Clause', 'LICENSE', 'https://github.com/intel/isa-l'),
]


def components(target, features):
    """The root's key, and every component by its key."""
    metadata = json.loads(subprocess.check_output(
        ['cargo', 'metadata', '--locked', '--format-version', '1', '--features', ' '.join(features), '--filter-platform', target],
        cwd=REPOSITORY))
    packages = {package['id']: package for package in metadata['packages']}
    uses = {node['id']: node['deps'] for node in metadata['resolve']['nodes']}
    checksums = locked_checksums()
    found, root = {}, metadata['resolve']['root']

    def visit(identity, linked):
        package = packages[identity]
        key = package['name'], package['version']
        # A macro runs while compiling, and so does all that it uses.
        linked = linked and not any('proc-macro' in one['kind'] for one in package['targets'])
        known = found.get(key)
        if known and (known.linked or not linked):
            return key
        component = known or of_crate(package, checksums)
        component.linked = linked
        found[key] = component
        for dependency in uses[identity]:
            for kind in {kind['kind'] for kind in dependency['dep_kinds']} - {'dev'}:
                component.uses.add(visit(dependency['pkg'], linked and kind is None))
        return key

    root = visit(root, True)
    for library in LIBRARIES:
        for crate in [one for one in found.values() if one.name == library.crate]:
            add_library(found, crate, library)
    add_target(found, found[root], target)
    return root, found


def of_crate(package, checksums):
    name, version, folder = package['name'], package['version'], os.path.dirname(package['manifest_path'])
    licence_files = sorted(os.path.join(folder, file) for file in os.listdir(folder)
                           if re.match(r'(UN)?LICEN[CS]E|COPYING|NOTICE', file, re.IGNORECASE))
    return Component(
        name, version, re.sub(r' */ *', ' OR ', package['license']), folder, 'pkg:cargo/%s@%s' % (name, version.replace('+', '%2B')),
        package['repository'] or package['homepage'], checksums.get((name, version)),
        licence_files=[file for file in licence_files if os.path.isfile(file)])


def locked_checksums():
    """From Cargo.lock, by name and version."""
    with open(os.path.join(REPOSITORY, 'Cargo.lock')) as lock:
        entries = lock.read().split('[[package]]')
    fields = [dict(re.findall(r'^(\w+) = "(.*)"$', entry, re.MULTILINE)) for entry in entries[1:]]
    return {(one['name'], one['version']): one['checksum'] for one in fields if 'checksum' in one}


def add_library(found, crate, library):
    sources = os.path.join(crate.folder, library.sources)
    with open(os.path.join(sources, library.version_file)) as file:
        match = re.search(library.version, file.read())
    if not match:
        raise SystemExit('%s: the version of %s is not where it used to be' % (crate.folder, library.name))
    version = '.'.join(match.groups())
    component = Component(library.name, version, library.licence, sources, 'pkg:generic/%s@%s' % (library.name, version),
                          library.homepage, licence_files=[os.path.join(sources, library.licence_file)])
    # openssl-src only builds the library; who links it is openssl-sys.
    for user in [crate] if crate.linked else [one for one in found.values() if crate.key in one.uses]:
        user.uses.add(component.key)
    found[component.key] = component


def add_target(found, root, target):
    """Rust's own library, the C library and the unwinder, which a static program has in it as well."""
    said = output('rustc', '-vV')
    release, host = [re.search('^%s: (.*)$' % word, said, re.MULTILINE).group(1) for word in ('release', 'host')]
    documents = os.path.join(output('rustc', '--print', 'sysroot').strip(), 'share/doc/rust')
    libraries = [
        # Its list names the crates in it, their authors and licences.
        of_target('rust-std', release, 'MIT OR Apache-2.0', 'https://www.rust-lang.org/', documents + '/COPYRIGHT-library.html',
                  documents + '/licenses/Apache-2.0.txt', DEBIAN % 'libstd-rust-dev'),
    ]
    if target.endswith('musl'):
        # Both come with Rust.
        libraries += [
            of_target('musl', '', 'MIT', 'https://musl.libc.org/', DEBIAN % 'musl-dev'),
            of_target('libunwind', '', 'Apache-2.0 WITH LLVM-exception', 'https://llvm.org/',
                      documents + '/licenses/Apache-2.0.txt', documents + '/licenses/LLVM-exception.txt'),
        ]
    else:
        compiler = 'gcc' if target == host else target.replace('-unknown', '') + '-gcc'
        glibc, gcc = versions(compiler) if shutil.which(compiler) else ('', '')
        base = 'gcc-%s-base' if target == host else 'gcc-%s-cross-base'
        libraries += [
            of_target('glibc', glibc, 'LGPL-2.1-or-later', 'https://www.gnu.org/software/libc/', LICENCES + 'LGPL-2.1', DEBIAN % 'libc6-dev'),
            of_target('libgcc', gcc, 'GPL-3.0-or-later WITH GCC-exception-3.1', 'https://gcc.gnu.org/',
                      LICENCES + 'GPL-3', DEBIAN % (base % gcc.split('.')[0])),
        ]
    for library in libraries:
        found[library.key] = library
        root.uses.add(library.key)


def versions(compiler):
    """Those of the glibc and of the GCC that a compiler links."""
    macros = output(compiler, '-E', '-dM', '-include', 'features.h', '-x', 'c', '/dev/null')
    glibc = [re.search(r'^#define %s (\d+)$' % name, macros, re.MULTILINE).group(1) for name in ('__GLIBC__', '__GLIBC_MINOR__')]
    return '.'.join(glibc), output(compiler, '-dumpfullversion').strip()


def of_target(name, version, licence, homepage, *licence_files):
    """A library that comes with the compilers; of the files those are taken that are there."""
    purl = 'pkg:generic/' + '@'.join(filter(None, (name, version)))
    return Component(name, version, licence, None, purl, homepage, licence_files=[file for file in licence_files if os.path.isfile(file)])


def output(*command):
    return subprocess.check_output(command, text=True, cwd=REPOSITORY)
