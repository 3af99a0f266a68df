"""An extension keeps the machine from completing its boot: at the third boot it is left out, and that is told."""
import os

from guestview import agent, enabled, merged, prepare, settle, text

HEALTH = '''[Unit]
Description=The host's own check of itself
DefaultDependencies=no
After=multi-user.target
Before=boot-complete.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo checking >/dev/hvc0; ! test -e /usr/bin/spoil'
'''


def play(s):
    m = s.machine()
    unit = os.path.join(m.folder, 'health.service')
    with open(unit, 'w') as file:
        file.write(HEALTH)
    files, links = enabled(s.lab.image('spoiler'))
    more = enabled(s.lab.image('alpha'))
    system = '/etc/systemd/system/'
    prepare(m, {**files, **more[0], system + 'health.service': unit},
            {**links, **more[1], system + 'boot-complete.target.requires/health.service': '../health.service'})
    for boot in (1, 2):
        m.boot()
        settle(m)
        s.check('boot %d: the extension is merged' % boot, 'spoiler' in merged(m), merged(m))
        s.check('boot %d: the boot is not complete' % boot, m.run('systemctl is-active boot-complete.target').code != 0)
        # Once as a machine that is switched off, once as one that crashes.
        m.off() if boot == 1 else m.cut()
    m.boot()
    settle(m)
    names = merged(m)
    s.check('boot 3: it is left out', 'spoiler' not in names, names)
    s.check('boot 3: the boot is complete', m.run('systemctl is-active boot-complete.target').code == 0, m.run('systemctl status boot-complete.target').out)
    report = text(m, '/run/sysgraft/boot.json')
    s.check('boot.json tells it', 'spoiler' in report and 'boot' in report, report)
    journal = m.run('journalctl -b --no-pager -o cat -u sysgraft-boot.service').out
    s.check('the journal tells it', 'spoiler' in journal, journal[-300:])
    s.check('status tells it', 'spoiler' in agent(m, 'sysext status').out)
    s.note('the others at boot 3', names)
