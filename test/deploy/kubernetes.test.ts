import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import type { Json } from '../support/gateway.ts'

const root = new URL('../../', import.meta.url)
const manifests: Json[] = parseAllDocuments(
  await readFile(new URL('deploy/kubernetes.yaml', root), 'utf8'),
).map((document) => document.toJS())
const ofKind = (kind: string) => manifests.find((manifest) => manifest.kind === kind)

t.test('the manifests fit the schemas of Kubernetes', async (t) => {
  for (const manifest of manifests) {
    await t.test(manifest.kind, async (t) => {
      const models: Json = await import(`kubernetes-models/${manifest.apiVersion}`)
      const { apiVersion, kind, ...data } = manifest
      t.equal(models[kind].apiVersion, apiVersion)
      t.doesNotThrow(() => new models[kind](data).validate())
    })
  }
  t.test('a wrong one is found', async (t) => {
    const { Service } = await import('kubernetes-models/v1')
    t.throws(() => new Service({ spec: { ports: [{ port: 'http' as never }] } }).validate(), /port/)
  })
})

// The schemas let unknown fields pass, as the API server does with a warning; the types do not.
t.test('the manifests have no field that Kubernetes does not know', { timeout: 60_000 }, async (t) => {
  t.equal(await complaints(manifests), '')
  const misspelt = structuredClone(ofKind('Deployment'))
  misspelt.spec.template.spec.containers[0].readinesProbe = {}
  t.match(await complaints([misspelt]), /readinesProbe/)
})

t.test('the pod meets the restricted pod security standard', async (t) => {
  const { spec } = ofKind('Deployment').spec.template
  t.match(spec.securityContext, { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
  for (const { securityContext } of spec.containers)
    t.strictSame(securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
})

t.test('the manifests fit each other and the gateway', async (t) => {
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
  t.equal(
    template.spec.volumes[0].persistentVolumeClaim.claimName,
    ofKind('PersistentVolumeClaim').metadata.name,
  )
  t.equal(container.envFrom[0].configMapRef.name, ofKind('ConfigMap').metadata.name)
  const { SHUTDOWN_TIMEOUT } = ofKind('ConfigMap').data
  // What server.ts gives closing on top of the timeout: 10 s.
  const needed = container.lifecycle.preStop.sleep.seconds + Number.parseInt(SHUTDOWN_TIMEOUT, 10) + 10
  t.ok(
    template.spec.terminationGracePeriodSeconds >= needed,
    'uploads under way have the time that they are told',
  )
})

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
