"""What all scenarios share: keys, artefacts, the guest's disk and initrd. Built once a run, in a folder of its own."""
import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.realpath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get('VMLAB', '/var/tmp/vmlab')  # where vm-setup puts tree and kernel


class Missing(Exception):
    """Something that the machines need is not on this host."""


class NoLab(Missing):
    """This checkout has no acceptance lab beside it."""


class Broken(Exception):
    """The lab itself failed: no result."""


def call(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise Broken('%s: %s' % (' '.join(map(str, command))[:200], done.stdout[-1500:]))
    return done.stdout


def find():
    """The folder with vm-setup; Missing if this host has none."""
    folder = os.environ.get('SYSGRAFT_LAB') or os.path.join(REPOSITORY, '..', 'shared', 'lab')
    if not os.access(os.path.join(folder, 'vm-setup'), os.X_OK):
        raise NoLab('no acceptance lab at %s (SYSGRAFT_LAB names another place)' % folder)
    return os.path.realpath(folder)


class Lab:
    def __init__(self, folder, work):
        self.work = work
        call(os.path.join(folder, 'vm-setup'))
        if not shutil.which('qemu-system-x86_64'):
            raise Missing('no qemu-system-x86_64')
        if not ('SYSGRAFT' in os.environ and 'SYSGRAFT_AGENT' in os.environ):
            call('cargo', 'build', '--release', '--locked', '--features', 'isal', cwd=REPOSITORY)
        self.sysgraft = self.program('SYSGRAFT', 'sysgraft')
        self.agent = self.program('SYSGRAFT_AGENT', 'sysgraft-agent')
        self.images = os.path.join(work, 'images')
        os.makedirs(self.images)
        self.keys()
        self.artefacts()
        shutil.copy(self.ca, self.images)
        self.media = os.path.join(work, 'media.img')
        call('truncate', '-s', '128M', self.media)
        call('mke2fs', '-q', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', self.images, self.media)
        self.root = self.root_image('fleet', self.key('fleet')[1])

    def program(self, variable, name):
        path = os.environ.get(variable) or os.path.join(REPOSITORY, 'target', 'release', name)
        if not os.access(path, os.X_OK):
            raise Broken('no program %s (%s)' % (path, variable))
        return os.path.realpath(path)

    def key(self, name):
        return [os.path.join(self.work, 'keys', name, 'db.' + end) for end in ('key', 'pem')]

    def keys(self):
        for name in ('fleet', 'stranger'):
            call(self.sysgraft, 'genkey', '--output', os.path.join(self.work, 'keys', name), name)
        tls = os.path.join(self.work, 'keys', 'tls')
        os.makedirs(tls)
        self.ca, self.server = tls + '/ca.pem', tls + '/server.pem'
        call('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30',
             '-subj', '/CN=the fleet\'s servers', '-keyout', tls + '/ca.key', '-out', self.ca)
        call('openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=images.example',
             '-addext', 'subjectAltName=DNS:images.example,IP:10.0.2.2', '-keyout', tls + '/server.key', '-out', tls + '/server.csr')
        call('openssl', 'x509', '-req', '-in', tls + '/server.csr', '-CA', self.ca, '-CAkey', tls + '/ca.key', '-days', '30',
             '-copy_extensions', 'copy', '-out', tls + '/server.crt')
        with open(self.server, 'w') as chain:
            chain.write(open(tls + '/server.key').read() + open(tls + '/server.crt').read())

    # --- artefacts -------------------------------------------------------------------------------------------

    def tree(self, name, files):
        folder = os.path.join(self.work, 'trees', name)
        for path, content in files.items():
            target = os.path.join(folder, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, 'wb') as file:
                file.write(content if isinstance(content, bytes) else content.encode())
            os.chmod(target, 0o755 if '/bin/' in path else 0o644)
        return folder

    def pack(self, name, files, signer='fleet', kind='sysext', version='1.0', more=()):
        """An extension as sysgraft makes it, under the file name NAME_VERSION.KIND.raw."""
        key, certificate = self.key(signer) if signer else (None, None)
        sign = ['--private-key', key, '--certificate', certificate] if signer else []
        folder = os.path.join(self.work, 'packed')
        os.makedirs(folder, exist_ok=True)
        call(self.sysgraft, kind, *sign, '--output', folder, *more, name, 'dir:' + self.tree(name + version, files))
        path = '%s/%s_%s.%s.raw' % (self.images, name, version, kind)
        os.rename('%s/%s.%s.raw' % (folder, name, kind), path)
        return path

    def repart(self, name, files, release, version='1.0'):
        """An extension as systemd-repart of the guest's Debian makes it: any release file, and another builder's image."""
        folder = self.tree(name + version, {**files, 'usr/lib/extension-release.d/extension-release.' + name: release})
        for path, end in zip(self.key('fleet'), ('key', 'pem')):
            shutil.copy(path, os.path.join(self.work, 'trees', 'signer.' + end))
        script = 'mount -t proc proc "$1/proc"; mount --bind "$2" "$1/mnt"; exec chroot "$1" systemd-repart --make-ddi=sysext ' \
                 '--private-key=/mnt/signer.key --certificate=/mnt/signer.pem -s "/mnt/$3" "/mnt/$3.raw"'
        call('unshare', '-m', 'sh', '-ec', script, 'sh', os.path.join(CACHE, 'tree'), os.path.join(self.work, 'trees'), name + version)
        path = '%s/%s_%s.sysext.raw' % (self.images, name, version)
        os.rename(folder + '.raw', path)
        return path

    def artefacts(self):
        unit = '[Unit]\nDescription=%s\n[Service]\nType=%s\nExecStart=/usr/bin/%s\n'
        upheld = '[Unit]\nUpholds=%s.service\n'
        self.pack('alpha', {
            'usr/bin/alpha-serve': '#!/bin/sh\necho alpha serves >/run/alpha\nexec sleep infinity\n',
            'usr/lib/systemd/system/alpha.service': unit % ('alpha', 'exec', 'alpha-serve'),
            'usr/lib/systemd/system/multi-user.target.d/10-alpha.conf': upheld % 'alpha'}, more=['--service-reload'])
        for name in ('beta', 'gamma'):
            self.pack(name, {'usr/share/%s/text' % name: 'of %s\n' % name * 2000})
        self.pack('site', {'etc/site/site.conf': 'answer=42\n'}, kind='confext')
        noise = os.urandom(1 << 20)
        self.damage(self.pack('tampered', {'usr/share/tampered/blob': noise}, more=['--compression', 'none']), noise[300000:300032], 0)
        # 1500 characters into the base64 of the PKCS#7 stands the RSA signature itself.
        self.damage(self.pack('forged', {'usr/share/forged/text': 'of a forger\n'}), b'"signature":"', 1500)
        self.pack('stranger', {'usr/share/stranger/text': 'of a stranger\n'}, signer='stranger')
        self.pack('unsigned', {'usr/share/unsigned/text': 'of nobody\n'}, signer=None)
        self.repart('otheros', {'usr/share/otheros/text': 'of another system\n'}, 'ID=debian\nVERSION_ID=99\nARCHITECTURE=x86-64\n')
        # app has a service, a check, and enough bytes that a download can be interrupted.
        release = 'ID=_any\nARCHITECTURE=x86-64\nEXTENSION_RELOAD_MANAGER=1\nEXTENSION_RESTART_UNITS=app.service\n'
        for version, serves, healthy in (('1.0', True, True), ('2.0', True, False), ('2.1', True, True), ('3.0', False, True)):
            self.repart('app', {
                'usr/bin/app-serve': '#!/bin/sh\necho %s >/run/app\n%s\n' % (version, 'exec sleep infinity' if serves else 'exit 1'),
                'usr/bin/app-check': '#!/bin/sh\n%s\n' % ('exit 0' if healthy else 'echo unhealthy >&2; exit 1'),
                'usr/share/app/version': version + '\n', 'usr/share/app/blob': os.urandom(4 << 20),
                'usr/lib/systemd/system/app.service': unit % ('app', 'exec', 'app-serve'),
                'usr/lib/systemd/system/multi-user.target.d/10-app.conf': upheld % 'app'}, release, version=version)
        # Keeps boot-complete.target from being reached.
        self.pack('spoiler', {
            'usr/bin/spoil': '#!/bin/sh\nexit 1\n',
            'usr/lib/systemd/system/spoiler.service':
                '[Unit]\nBefore=boot-complete.target\n[Service]\nType=oneshot\nExecStart=/usr/bin/spoil\n',
            'usr/lib/systemd/system/boot-complete.target.d/10-spoiler.conf':
                '[Unit]\nRequires=spoiler.service\nAfter=spoiler.service\n'}, more=['--service-reload'])

    def damage(self, path, after, offset):
        """Changes one byte, at an offset behind those bytes."""
        with open(path, 'r+b') as image:
            content = image.read()
            at = content.index(after) + offset
            image.seek(at)
            image.write(b'B' if content[at:at + 1] == b'A' else b'A')

    def image(self, name, version='1.0', kind='sysext'):
        return '%s/%s_%s.%s.raw' % (self.images, name, version, kind)

    # --- the guest -------------------------------------------------------------------------------------------

    def root_image(self, name, trust, package=''):
        folder = os.path.join(self.work, 'root-' + name)
        os.makedirs(folder)
        call(os.path.join(HERE, 'root-image'), folder, env={
            **os.environ, 'VMLAB': CACHE, 'AGENT': self.agent, 'DIST': os.environ.get('SYSGRAFT_DIST') or os.path.join(REPOSITORY, 'dist'), 'TRUST': trust, 'CA': self.ca,
            'PACKAGE': package})
        return folder
