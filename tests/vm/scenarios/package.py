"""A machine whose agent and units came with the Debian package: they work at boot, and a purge leaves the store alone."""
import os

from guestview import enabled, merged, prepare, settle, text
from lab import Missing

UNITS = 'sysgraft-boot.service', 'sysgraft-boot-complete.service', 'sysgraft-gc.timer'


def play(s):
    package = os.environ.get('SYSGRAFT_PACKAGE')
    if not package:
        raise Missing('SYSGRAFT_PACKAGE names no Debian package')
    m = s.machine(s.lab.root_image('package', s.lab.key('fleet')[1], package))
    files, links = {}, {}
    for name in ('alpha', 'stranger'):
        more = enabled(s.lab.image(name))
        files.update(more[0]), links.update(more[1])
    prepare(m, files, links)
    s.note('up', '%.0f s' % m.boot())
    state, failed = settle(m)
    s.check('the machine runs', state == 'running', '%s %s' % (state, failed))
    s.note('package', m.run('dpkg-query -W sysgraft-agent').out)
    for unit in UNITS:
        s.check('%s is enabled' % unit, m.run('systemctl is-enabled ' + unit).out.strip() == 'enabled')
    s.check('the trusted extension is merged, the other is not', merged(m) == ['alpha'], merged(m))
    s.check('its service runs', text(m, '/run/alpha') == 'alpha serves')
    s.check('the report is there', text(m, '/run/sysgraft/boot.json').startswith('{'))

    m.run('mkdir -p /etc/sysgraft; echo \'signatures = "required"\' >/etc/sysgraft/agent.toml')
    # /usr cannot be written while something is merged into it.
    purge = m.run('systemd-sysext unmerge && dpkg --purge sysgraft-agent && systemd-sysext merge')
    s.check('purge succeeds', purge.code == 0, purge.out + purge.err)
    left = m.run('find / -xdev \\( -name "*sysgraft*" -o -name "agent.toml" \\) -not -path "/proc/*" -not -path "/var/lib/kairos/*"').out.split()
    s.check('nothing is left', left == [], left)
    stored = m.run('ls /var/lib/kairos/extensions').out
    s.check('but the store is', 'alpha_1.0.sysext.raw' in stored, stored)
    s.check('what was linked is merged again', merged(m) == ['alpha'], merged(m))
    state, failed = settle(m)
    s.check('the machine still runs', state == 'running', '%s %s' % (state, failed))
