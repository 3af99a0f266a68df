"""Three signed system extensions and a configuration extension are enabled, and beside them ones that must not get in."""
import json

from guestview import agent, enabled, merged, prepare, settle, text, verity

GOOD = ['alpha', 'beta', 'gamma']
BAD = {'forged': 'signature', 'stranger': 'sign', 'otheros': 'VERSION_ID', 'unsigned': 'sign'}


def play(s):
    m, files, links = s.machine(), {}, {}
    for name in [*GOOD, *BAD, 'tampered']:
        # As kairos-agent links, and as sysgraft-agent does.
        placed = enabled(s.lab.image(name), target='/var/lib/kairos/extensions/%s' if name == 'beta' else '../%s')
        files.update(placed[0]), links.update(placed[1])
    placed = enabled(s.lab.image('site', kind='confext'), 'confext')
    files.update(placed[0]), links.update(placed[1])
    prepare(m, files, links)
    s.note('up', '%.0f s' % m.boot())
    state, failed = settle(m)
    s.check('the machine runs', state == 'running', '%s %s' % (state, failed))

    names = merged(m)
    s.check('good ones are merged', set(GOOD) <= set(names), names)
    s.check('bad ones are not', not set(BAD) & set(names), names)
    s.check('the confext is merged', merged(m, 'confext') == ['site'], merged(m, 'confext'))
    s.check('files are there', 'of beta' in text(m, '/usr/share/beta/text') and 'of gamma' in text(m, '/usr/share/gamma/text'))
    s.check('configuration is there', text(m, '/etc/site/site.conf') == 'answer=42')
    s.check('the service of one runs', m.run('systemctl is-active alpha.service').out.strip() == 'active' and text(m, '/run/alpha') == 'alpha serves',
            m.run('systemctl status alpha.service').out[:200])
    blocks = m.run('cat /usr/share/*/text >/dev/null').code
    expected = len(GOOD) + 1 + ('tampered' in names)
    s.check('dm-verity guards each', blocks == 0 and verity(m) >= len(GOOD) + 1, '%d devices of %d' % (verity(m), expected))

    report = text(m, '/run/sysgraft/boot.json')
    try:
        told = json.loads(report)
    except ValueError:
        told = None
    s.check('boot.json is JSON', told is not None, report[:200])
    journal = m.run('journalctl -b --no-pager -o cat -u sysgraft-boot.service').out
    status = agent(m, 'sysext status')
    for name, reason in BAD.items():
        s.check('boot.json names %s and why' % name, named(told, name, reason), about(told, name))
        s.check('the journal names %s' % name, name in journal, [line for line in journal.splitlines() if name in line][:1] or journal[-200:])
        s.check('status names %s' % name, name in status.out, [line for line in status.out.splitlines() if name in line][:1] or status.err[-200:])

    # A damaged block of data may be found at boot, or by dm-verity when it is read; never silently.
    if 'tampered' in names:
        read = m.run('cat /usr/share/tampered/blob >/dev/null')
        s.check('damaged data cannot be read', read.code != 0 and 'Input/output error' in read.err, read.err)
        s.check('damage does not spread', m.run('cat /usr/share/*/text >/dev/null').code == 0)
    else:
        s.check('damaged data was found at boot', named(told, 'tampered', ''), about(told, 'tampered'))


def entries(told):
    """Every object in a JSON value."""
    if isinstance(told, dict):
        yield told
        told = list(told.values())
    for value in told if isinstance(told, list) else []:
        yield from entries(value)


def about(told, name):
    """The objects in which a text begins with the extension's name, smallest first."""
    found = [json.dumps(entry) for entry in entries(told) if any(isinstance(v, str) and v.startswith(name) for v in entry.values())]
    return min(found, key=len, default='nothing about ' + name)


def named(told, name, reason):
    return about(told, name).startswith('{') and reason.lower() in about(told, name).lower()
