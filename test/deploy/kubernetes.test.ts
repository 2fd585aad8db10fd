import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { BlockList } from 'node:net'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import type { Json } from '../support/gateway.ts'

const root = new URL('../../', import.meta.url)
const read = (path: string) => readFile(new URL(path, root), 'utf8')

interface Manifests {
  file: string
  all: Json[]
  ofKind(kind: string): Json
}

async function readManifests(file: string): Promise<Manifests> {
  const all: Json[] = parseAllDocuments(await read(`deploy/${file}`)).map((document) => document.toJS())
  return { file, all, ofKind: (kind) => all.find((manifest) => manifest.kind === kind) }
}

/** Three pods or more on PostgreSQL; one pod on SQLite. */
const [many, one] = await Promise.all(['kubernetes.yaml', 'kubernetes-sqlite.yaml'].map(readManifests))
const variants = [many!, one!]

for (const { file, all, ofKind } of variants) {
  t.test(`${file}: the manifests match the schemas of Kubernetes`, async (t) => {
    for (const manifest of all) {
      await t.test(manifest.kind, async (t) => {
        const models: Json = await import(`kubernetes-models/${manifest.apiVersion}`)
        const { apiVersion, kind, ...data } = manifest
        t.equal(models[kind].apiVersion, apiVersion)
        t.doesNotThrow(() => new models[kind](data).validate())
      })
    }
  })

  t.test(`${file}: the pod meets the restricted pod security standard`, async (t) => {
    const { spec } = ofKind('Deployment').spec.template
    t.match(spec.securityContext, { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
    for (const { securityContext } of spec.containers)
      t.strictSame(securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      })
  })

  t.test(`${file}: the manifests match each other and the gateway`, async (t) => {
    const { template, selector } = ofKind('Deployment').spec
    const labels = template.metadata.labels
    t.match(labels, selector.matchLabels)
    t.match(labels, ofKind('Service').spec.selector)
    t.match(labels, ofKind('PodDisruptionBudget').spec.selector.matchLabels)
    const [container] = template.spec.containers
    const [port] = container.ports
    t.equal(ofKind('Service').spec.ports[0].targetPort, port.name)
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
      t.equal(container[probe].httpGet.port, port.name)
    t.strictSame(
      container.volumeMounts.map(({ name }: Json) => name),
      template.spec.volumes.map(({ name }: Json) => name),
      'volumes and where they are mounted',
    )
    t.equal(container.envFrom[0].configMapRef.name, ofKind('ConfigMap').metadata.name)
    const { SHUTDOWN_TIMEOUT, ...variables } = ofKind('ConfigMap').data
    // What server.ts gives closing on top of the timeout: 10 s.
    const needed = container.lifecycle.preStop.sleep.seconds + Number.parseInt(SHUTDOWN_TIMEOUT, 10) + 10
    t.ok(
      template.spec.terminationGracePeriodSeconds >= needed,
      'uploads in progress have SHUTDOWN_TIMEOUT to finish',
    )
    const documented = await read('docs/configuration.md')
    for (const name of Object.keys(variables)) t.match(documented, `\`${name}\``, `${name} is a variable`)
  })
}

t.test('the schema check rejects a wrong manifest', async (t) => {
  const { Service } = await import('kubernetes-models/v1')
  t.throws(() => new Service({ spec: { ports: [{ port: 'http' as never }] } }).validate(), /port/)
})

// The schemas let unknown fields pass, as the API server does with a warning; the types do not.
t.test('the manifests have only fields that Kubernetes knows', { timeout: 60_000 }, async (t) => {
  const misspelt = structuredClone(many!.ofKind('Deployment'))
  misspelt.spec.template.spec.containers[0].readinesProbe = {}
  const found = await complaints([...many!.all, ...one!.all, misspelt])
  t.strictSame(found.match(/^\S+\(/gm)?.length, 1, found)
  t.match(found, /readinesProbe/)
})

t.test('one pod: it has a volume, and the old pod ends before the new one starts', async (t) => {
  const { replicas, strategy, template } = one!.ofKind('Deployment').spec
  t.equal(replicas, 1)
  t.equal(strategy.type, 'Recreate')
  const { claimName } = template.spec.volumes[0].persistentVolumeClaim
  t.equal(claimName, one!.ofKind('PersistentVolumeClaim').metadata.name)
})

t.test('many pods: replicas, database connections and spread are consistent', async (t) => {
  const { replicas, strategy, template, selector } = many!.ofKind('Deployment').spec
  const { scaleTargetRef, minReplicas, maxReplicas, metrics } = many!.ofKind('HorizontalPodAutoscaler').spec
  const deployment = many!.ofKind('Deployment')
  t.strictSame(scaleTargetRef, {
    apiVersion: deployment.apiVersion,
    kind: deployment.kind,
    name: deployment.metadata.name,
  })
  t.equal(replicas, undefined, 'the autoscaler alone sets the number')
  t.equal(minReplicas, 3)
  const { requests } = template.spec.containers[0].resources
  t.equal(metrics[0].resource.name, 'cpu')
  t.ok(
    millis(metrics[0].resource.target.averageValue) > millis(requests.cpu),
    'a pod that does what it was planned for adds none',
  )
  t.ok(millis(metrics[0].resource.target.averageValue) < 1000, 'a process uses one core at most')
  t.equal(strategy.rollingUpdate.maxUnavailable, 0)
  // max_connections 100, of which 3 are reserved for superusers (PostgreSQL's defaults).
  const { DATABASE_POOL } = many!.ofKind('ConfigMap').data
  t.ok((maxReplicas + strategy.rollingUpdate.maxSurge) * Number(DATABASE_POOL) <= 97)
  t.ok(many!.ofKind('PodDisruptionBudget').spec.maxUnavailable < minReplicas)
  for (const { labelSelector } of template.spec.topologySpreadConstraints)
    t.strictSame(labelSelector.matchLabels, selector.matchLabels)
  t.strictSame(template.spec.containers[0].env, [
    {
      name: 'DATABASE_URL',
      valueFrom: { secretKeyRef: { name: 'video-gateway', key: 'DATABASE_URL' } },
    },
  ])
})

t.test('many pods: the network policy allows what the gateway needs, and nothing else', async (t) => {
  const { podSelector, policyTypes, ingress, egress } = many!.ofKind('NetworkPolicy').spec
  t.strictSame(podSelector, many!.ofKind('Deployment').spec.selector)
  t.strictSame(policyTypes, ['Ingress', 'Egress'])
  t.equal(ingress[0].ports[0].port, many!.ofKind('Service').spec.ports[0].targetPort)
  t.strictSame(
    egress.flatMap(({ ports }: Json) => ports.map(({ protocol, port }: Json) => `${protocol} ${port}`)),
    ['UDP 53', 'TCP 53', 'TCP 5432', 'TCP 443', 'TCP 4318'],
    'DNS, the database, platforms, traces',
  )
  const [{ ipBlock: v4 }, { ipBlock: v6 }] = egress[2].to
  for (const { cidr, except } of [v4, v6]) {
    const outside = new BlockList()
    for (const network of except) {
      const [address, bits] = network.split('/')
      outside.addSubnet(address, Number(bits), cidr === '::/0' ? 'ipv6' : 'ipv4')
    }
    const hidden: string[] =
      cidr === '::/0'
        ? ['fd00:ec2::254', 'fe80::1']
        : ['10.1.2.3', '172.31.0.1', '192.168.1.1', '169.254.169.254', '100.100.0.1']
    for (const address of hidden)
      t.ok(outside.check(address, cidr === '::/0' ? 'ipv6' : 'ipv4'), `${address} is not public`)
  }
})

/** A quantity of CPU in thousandths of a core. */
function millis(quantity: string): number {
  return quantity.endsWith('m') ? Number.parseInt(quantity, 10) : Number(quantity) * 1000
}

/** What the type checker says of the manifests against the types of Kubernetes; nothing when all is well. */
async function complaints(documents: Json[]): Promise<string> {
  // Below the project, so that the packages are found from there.
  const directory = await mkdtemp(new URL('node_modules/.manifests-', root).pathname)
  try {
    const source = documents.map(
      ({ apiVersion, kind, ...rest }, index) =>
        `import type { I${kind} as K${index} } from 'kubernetes-models/${apiVersion}'\n` +
        `export const m${index}: K${index} = ${JSON.stringify({ apiVersion, kind, ...rest })}\n`,
    )
    await writeFile(`${directory}/manifests.ts`, source.join(''))
    const compilerOptions = { noEmit: true, strict: true, skipLibCheck: true, module: 'nodenext', types: [] }
    await writeFile(`${directory}/tsconfig.json`, JSON.stringify({ compilerOptions }))
    // Without tap's hooks, which the type checker does not bear: it gets no environment but the path.
    const command = ['-i', `PATH=${process.env.PATH}`, 'tsc', '-p', directory]
    const { stdout, stderr, status } = spawnSync('env', command, { encoding: 'utf8' })
    return status === 0 ? '' : `tsc: ${status}\n${stdout}${stderr}`
  } finally {
    await rm(directory, { recursive: true })
  }
}
