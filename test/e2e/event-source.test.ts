import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import t from 'tap'
import { key, startGateway, temporaryDirectory } from '../support/gateway.ts'
import { codeInGuide, startProgram } from '../support/guide.ts'

const chromiumPath = process.env.CHROMIUM ?? '/usr/bin/chromium'
const skip = existsSync(chromiumPath)
  ? false
  : `no browser at ${chromiumPath}: apt-get install chromium, or set CHROMIUM`
const flags = '--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync'

t.test(
  'an EventSource in a browser follows a publication, over the server of the guide',
  { skip },
  async (t) => {
    const gateway = await startGateway(t)
    const path = join(await temporaryDirectory(t), 'server.mjs')
    await writeFile(path, codeInGuide('event-source-server'))
    const env = { GATEWAY_URL: gateway.url, GATEWAY_API_KEY: key }
    const server = await startProgram(t, path, env)
    const browser = await chromium.launch({ executablePath: chromiumPath, args: flags.split(' ') })
    t.teardown(() => browser.close())
    const page = await browser.newPage()
    const origin = `http://127.0.0.1:${server.port}`
    const body = codeInGuide('event-source-page')
    await page.route(`${origin}/`, (route) =>
      route.fulfill({ contentType: 'text/html; charset=utf-8', body }),
    )
    await page.goto(`${origin}/`)
    await page.waitForFunction('source.readyState === EventSource.OPEN')

    const { id } = await gateway.create({ title: 'Öffnung' })
    await gateway.put(id, readFileSync('sandbox/sample.mp4'))
    const line = (text: string) => page.locator('#events li', { hasText: text }).first().waitFor()
    await line('Öffnung: ready')
    const lines = await page.locator('#events li').allInnerTexts()
    t.equal(lines[0], 'Öffnung: awaiting-upload')
    t.ok(lines.includes('Öffnung: processing'), lines.join())

    await server.stop()
    await gateway.create({ title: 'while the server was away' })
    await startProgram(t, path, env, server.port)
    await line('while the server was away: awaiting-upload')
    t.strictSame(
      (await page.locator('#events li').allInnerTexts()).slice(0, lines.length),
      lines,
      'the browser continues after the last event that it received',
    )
    t.equal(await page.locator('#events li', { hasText: 'ready' }).count(), 1)
  },
)
