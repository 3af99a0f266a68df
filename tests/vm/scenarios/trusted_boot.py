"""A machine with Secure Boot starts a unified kernel image that its owner signed: the owner's db is the trusted signer,
Microsoft's certificates beside it are not, and nothing unsigned gets in."""
import json
import os
import shutil

from guestview import agent, enabled, merged, prepare, said, settle, text
from lab import CACHE, REPOSITORY, Missing, call
from machine import COMMAND_LINE
from server import Server

OVMF = '/usr/share/OVMF/OVMF_CODE_4M.secboot.fd', '/usr/share/OVMF/OVMF_VARS_4M.fd'
STUB = '/usr/lib/systemd/boot/efi/linuxx64.efi.stub'
EFIVARS = '/sys/firmware/efi/efivars/'
GLOBAL, SECURITY_DATABASE = '8be4df61-93ca-11d2-aa0d-00e098032b8c', 'd719b2cb-3d3a-4596-a3bc-dad00e67656f'  # UEFI 2.10, 3.3 and 32.6


def play(s):
    for needed in (*OVMF, STUB, shutil.which('sbsign') or 'sbsign', shutil.which('objcopy') or 'objcopy'):
        if not os.path.exists(needed):
            raise Missing('no %s (packages ovmf, systemd-boot-efi, sbsigntool, binutils)' % needed)
    # No certificate in verity.d: whom to trust, this machine learns from its firmware alone.
    root = s.lab.root_image('untrusting', '')
    m, server = s.machine(root), Server(s.lab.images, s.lab.server)
    files, links = {}, {}
    for name in ('alpha', 'unsigned', 'stranger'):
        more = enabled(s.lab.image(name))
        files.update(more[0]), links.update(more[1])
    prepare(m, files, links)
    m.firmware = firmware(s, root, m.folder)
    s.note('up', '%.0f s' % m.boot(timeout=400))
    settle(m)

    secure = m.run('tail -c 1 %sSecureBoot-%s | od -An -tu1' % (EFIVARS, GLOBAL)).out.strip()
    s.check('Secure Boot is on', secure == '1', secure)
    in_db = m.run('grep -a -o "Microsoft[ A-Za-z0-9]*" %sdb-%s | sort -u' % (EFIVARS, SECURITY_DATABASE)).out
    s.check('db has Microsoft\'s certificates, too', 'Microsoft' in in_db, in_db)
    trusted = m.run('for f in /run/verity.d/*.crt; do openssl x509 -in "$f" -noout -subject; done').out
    s.check('the owner\'s db certificate is a trusted signer', 'fleet-db' in trusted, trusted)
    s.check('Microsoft\'s is not', trusted != '' and 'Microsoft' not in trusted, trusted)
    names = merged(m)
    s.check('signed by the owner: merged', 'alpha' in names, names)
    s.check('unsigned and foreign ones: not merged', names != [] and not {'unsigned', 'stranger'} & set(names), names)
    report = text(m, '/run/sysgraft/boot.json')
    s.check('boot.json names both', 'unsigned' in report and 'stranger' in report, report)
    for kind in ('sysext', 'confext'):
        drop_in = text(m, '/run/systemd/system/systemd-%s.service.d/sysgraft.conf' % kind)
        order = m.run('systemctl show -P ExecReload systemd-%s.service' % kind).out
        s.check('strict policy for %s' % kind, 'root=signed' in drop_in and 'verity+' not in drop_in and 'root=signed' in order, drop_in)
    install = 'sysext install --ca-file /media/ca.pem '
    for option in ('--allow-unsigned', '--insecure-skip-verify'):
        done = agent(m, install + option + ' ' + server.url('unsigned_1.0.sysext.raw'))
        s.check('%s is refused' % option, done.code != 0, said(done))
    done = agent(m, install + server.url('beta_1.0.sysext.raw'))
    s.check('signed by the owner: installed', done.code == 0, said(done))
    done = agent(m, 'sysext enable beta --common --now')
    s.check('and merged', done.code == 0 and {'alpha', 'beta'} <= set(merged(m)), said(done))
    server.shutdown()


def firmware(s, root, folder):
    """What QEMU needs to start the unified kernel image from an EFI system partition, with Secure Boot on."""
    keys = os.path.join(s.lab.work, 'keys', 'fleet')
    tools = os.path.join(REPOSITORY, 'target', 'virt-firmware')
    call(os.path.join(REPOSITORY, '.ci', 'virt-firmware'), tools)
    variables = os.path.join(folder, 'variables.fd')
    enrolled = []
    for name, vendor in (('PK', GLOBAL), ('KEK', GLOBAL), ('db', SECURITY_DATABASE)):
        with open('%s/%s.esl' % (keys, name), 'rb') as file:
            # Attributes: kept, for boot and run time, written with a time and a signature.
            enrolled.append({'name': name, 'guid': vendor, 'attr': 0x27, 'data': file.read().hex(), 'time': 'ea070101' + 12 * '00'})
    with open(os.path.join(folder, 'variables.json'), 'w') as file:
        json.dump({'version': 2, 'variables': enrolled}, file)
    program = os.path.join(tools, 'bin', 'virt-fw-vars')
    call(program if os.path.exists(program) else 'virt-fw-vars', '-i', OVMF[1], '-o', variables, '--set-json', file.name, '--sb')

    esp = os.path.join(folder, 'esp', 'EFI', 'BOOT')
    os.makedirs(esp)
    kernel, image = os.path.join(folder, 'kernel'), os.path.join(folder, 'image.efi')
    with open(os.path.join(folder, 'cmdline'), 'w') as file:
        file.write(COMMAND_LINE)
    signer = '--key', keys + '/db.key', '--cert', keys + '/db.pem'
    # Debian's own signature would stand before ours, and be asked.
    shutil.copy(os.path.join(CACHE, 'vm', 'vmlinuz'), kernel)
    call('sbattach', '--remove', kernel)
    call('sbsign', *signer, '--output', kernel + '.signed', kernel)
    sections = (('.cmdline', folder + '/cmdline', 0x30000), ('.linux', kernel + '.signed', 0x2000000),
                ('.initrd', os.path.join(root, 'initrd.cpio'), 0x3000000))
    call('objcopy', *[word for name, path, at in sections
                      for word in ('--add-section', '%s=%s' % (name, path), '--change-section-vma', '%s=%#x' % (name, at))], STUB, image)
    call('sbsign', *signer, '--output', os.path.join(esp, 'BOOTX64.EFI'), image)
    return ['-global', 'driver=cfi.pflash01,property=secure,value=on',
            '-drive', 'if=pflash,format=raw,unit=0,readonly=on,file=' + OVMF[0], '-drive', 'if=pflash,format=raw,unit=1,file=' + variables,
            '-drive', 'if=none,id=esp,format=raw,readonly=on,file=fat:' + os.path.join(folder, 'esp'), '-device', 'virtio-blk-pci,drive=esp,bootindex=1']
