"""What scenarios ask of a guest again and again."""
import json
import os
import subprocess

from lab import Broken

STORE = {'sysext': '/var/lib/kairos/extensions', 'confext': '/var/lib/kairos/confexts'}


def prepare(machine, files=None, links=None):
    """Puts files of the host and symbolic links on the disk of a machine that is off."""
    commands, folders = [], {'/'}

    def folder(path):
        if path not in folders:
            folder(os.path.dirname(path))
            folders.add(path)
            commands.append('mkdir %s' % path)

    for path, source in (files or {}).items():
        folder(os.path.dirname(path))
        commands += ['rm ' + path, 'write %s %s' % (source, path)]
    for path, target in (links or {}).items():
        folder(os.path.dirname(path))
        commands.append('symlink %s %s' % (path, target))
    done = subprocess.run(['debugfs', '-w', '-f', '-', machine.disk], input='\n'.join(commands) + '\n', text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Folders that are there already, and files that are not, are no errors here.
    odd = [line for line in done.stderr.splitlines() if line and 'already exists' not in line and not line.startswith(('debugfs ', 'rm: '))]
    if done.returncode or odd:
        raise Broken('debugfs: ' + ' | '.join(odd)[:300])


def enabled(path, kind='sysext', profile='common', target='../%s'):
    """Where an image lies in the store, and its link in a profile: for `prepare`."""
    name = os.path.basename(path)
    return {'%s/%s' % (STORE[kind], name): path}, {'%s/%s/%s' % (STORE[kind], profile, name): target % name}


def merged(machine, kind='sysext'):
    """The names that systemd has merged."""
    rows = json.loads(machine.run('systemd-%s status --json=short' % kind).out or '[]')
    return sorted({name for row in rows if isinstance(row['extensions'], list) for name in row['extensions']})


def verity(machine):
    """How many dm-verity devices are active, none of which has seen damage."""
    lines = machine.run('dmsetup status --target verity').out.splitlines()
    return len([line for line in lines if line.split()[-1:] == ['V']])


def text(machine, path):
    return machine.run('cat %s' % path).out.strip()


def agent(machine, arguments, timeout=240, before=''):
    return machine.run('%s sysgraft-agent %s' % (before, arguments), timeout)


def settle(machine):
    """Waits until the boot is over; gives the state and what failed."""
    done = machine.run('systemctl is-system-running --wait; systemctl --failed --no-legend --plain | cut -d" " -f1', timeout=120)
    state, *failed = done.out.split()
    return state, failed


def said(result):
    """The last lines of a command's messages, for a table."""
    return 'exit %d: %s' % (result.code, (result.err or result.out).strip()[-250:])
