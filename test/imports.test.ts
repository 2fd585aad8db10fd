import { readFileSync } from 'node:fs'
import { glob } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import t from 'tap'

/**
 * The rooms of `src/`, in the order of ARCHITECTURE.md, and the rooms that each may import from. Data flows from the
 * routes to the platforms, and no import runs back.
 */
const rooms: Record<string, readonly string[]> = {
  // The stand-in platform, outside of `src/`: the process starts it when no platform is configured.
  sandbox: [],
  errors: [],
  'platform/ports': ['errors'],
  'platform/http': ['errors', 'platform/ports'],
  'platform/upload': ['errors', 'platform/ports', 'platform/http'],
  'platform/VENDOR': ['errors', 'platform/ports', 'platform/http', 'platform/upload'],
  platform: ['errors', 'platform/ports', 'platform/http', 'platform/VENDOR'],
  // Calls to addresses that somebody else chose.
  outbound: [],
  publication: ['errors', 'platform/ports'],
  store: ['errors', 'platform/ports', 'publication'],
  events: ['errors', 'outbound', 'platform/ports', 'publication'],
  auth: ['errors'],
  config: ['errors', 'auth', 'platform/ports', 'platform', 'publication'],
  observability: ['errors', 'config', 'events', 'platform/ports', 'publication'],
  http: ['errors', 'auth', 'observability', 'publication'],
  routes: [
    'errors',
    'auth',
    'config',
    'events',
    'http',
    'observability',
    'outbound',
    'platform',
    'publication',
  ],
  app: [
    'errors',
    'auth',
    'config',
    'events',
    'http',
    'observability',
    'outbound',
    'platform/ports',
    'platform',
    'publication',
    'routes',
    'store',
  ],
  server: ['auth', 'config', 'observability', 'app', 'sandbox'],
}

/** What an adapter is built on, and what the domain asks of one. */
const ports = ['src/platform/platform.ts', 'src/platform/tools.ts']

function roomOf(path: string): string {
  const [top, folder = '', inner] = path.split('/')
  if (top !== 'src') return top ?? ''
  if (ports.includes(path)) return 'platform/ports'
  if (folder !== 'platform') return folder.replace(/\.ts$/, '')
  if (inner === 'http' || inner === 'upload') return `platform/${inner}`
  return inner?.endsWith('.ts') ? 'platform' : 'platform/VENDOR'
}

/** What each file imports. What it imports as types alone, it does not need to run. */
async function importsOf() {
  const imports = new Map<string, { path: string; typeOnly: boolean }[]>()
  for await (const path of glob('src/**/*.ts')) {
    const text = readFileSync(path, 'utf8')
    const found = [
      ...text.matchAll(/^(?:import|export) (type )?[^;]*?from '(\.[^']+)'|import\('(\.[^']+)'\)/gm),
    ]
    imports.set(
      path,
      found.map(([, type, one, other]) => ({
        path: join(dirname(path), one ?? other ?? ''),
        typeOnly: type !== undefined,
      })),
    )
  }
  return imports
}

t.test('imports run in one direction', async (t) => {
  const imports = await importsOf()
  t.ok(imports.size > 50)
  for (const [path, targets] of imports)
    for (const { path: target } of targets) {
      const [from, to] = [roomOf(path), roomOf(target)]
      const allowed = from === to || rooms[from]?.includes(to)
      if (!allowed) t.fail(`${path} imports ${target}: ${from} may import ${rooms[from]?.join(', ')}`)
      if (from === 'platform/VENDOR' && to === from)
        t.equal(dirname(target), dirname(path), `${path}: adapters do not know each other`)
    }
})

t.test('each room imports only rooms above it in the table', async (t) => {
  const order = Object.keys(rooms)
  for (const [room, targets] of Object.entries(rooms))
    for (const target of targets) t.ok(order.indexOf(target) < order.indexOf(room), `${room} after ${target}`)
})

t.test('no files import each other in a circle', async (t) => {
  const imports = await importsOf()
  const done = new Set<string>()
  const visit = (path: string, trail: string[]) => {
    if (trail.includes(path))
      return t.fail(`a circle: ${[...trail.slice(trail.indexOf(path)), path].join(' → ')}`)
    if (done.has(path)) return
    for (const { path: target, typeOnly } of imports.get(path) ?? [])
      if (!typeOnly) visit(target, [...trail, path])
    done.add(path)
  }
  for (const path of imports.keys()) visit(path, [])
  t.ok(done.size >= imports.size)
})
