import { createServer, request as forward } from 'node:http'
import t, { type Test } from 'tap'
import { platformDefinitions } from '../../../src/platform/registry.ts'
import { scenarios } from '../conformance/setup.ts'
import type { PlatformDouble } from '../double.ts'
import { get, listen, setUp } from './http-setup.ts'

const path = '/doubles/acme'

t.test('every path is requested below the base URL, with or without a leading slash', async (t) => {
  for (const end of ['', '/']) {
    const { http, seen, origin } = await setUp(t, { basePath: path + end })
    const ask = (url: string) => http.send({ ...get, url })
    await ask('things/1?a=/b')
    await ask('/things/1?a=/b')
    await ask(`${origin}/elsewhere`)
    await ask(http.uploadUrl('/given/by/the/platform'))
    await ask(http.uploadUrl('given'))
    t.strictSame(
      seen.map(({ url }) => url.pathname + url.search),
      [
        `${path}/things/1?a=/b`,
        `${path}/things/1?a=/b`,
        '/elsewhere',
        '/given/by/the/platform',
        `${path}/given`,
      ],
    )
  }
})

for (const { name } of platformDefinitions) {
  scenarios(t, async () => below(t, await (await import(`../doubles/${name}.ts`)).startDouble()))(
    `${name}, below a path`,
    async (t, { platform, publication }) => {
      const video = publication()
      await video.publish()
      t.match(await platform.status(video.slot, video.call()), { state: 'ready' })
      await platform.remove(video.slot, video.call())
    },
  )
}

/** Puts a double's API below a path; what does not go there gets no answer that is of use. */
async function below(t: Test, double: PlatformDouble): Promise<PlatformDouble> {
  const variable = Object.keys(double.variables).find((key) => key.endsWith('_BASE_URL'))!
  const target = double.variables[variable]!.replace(/\/$/, '')
  const server = createServer((request, response) => {
    if (!request.url?.startsWith(`${path}/`)) {
      double.violations.push(`${request.method} ${request.url} is not below the base URL`)
      return void response.writeHead(400).end()
    }
    const { method, headers } = request
    const onward = forward(target + request.url.slice(path.length), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    request.pipe(onward)
  })
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const origin = (await listen(server)).replace(/\/$/, '')
  return { ...double, variables: { ...double.variables, [variable]: origin + path } }
}
