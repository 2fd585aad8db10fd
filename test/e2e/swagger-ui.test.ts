import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { key, startGateway } from '../support/gateway.ts'

const chromiumPath = process.env.CHROMIUM ?? '/usr/bin/chromium'
const skip = existsSync(chromiumPath)
  ? false
  : `no browser at ${chromiumPath}: apt-get install chromium, or set CHROMIUM`
const sample = fileURLToPath(new URL('../../sandbox/sample.mp4', import.meta.url))
const flags =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'

let browser: Browser
t.before(async () => {
  if (!skip) browser = await chromium.launch({ executablePath: chromiumPath, args: flags.split(' ') })
})
t.teardown(() => browser?.close())

/** Opens an operation, fills it in, executes it. @returns the status and the body that the page shows */
async function execute(
  page: Page,
  id: string,
  fill: (operation: ReturnType<Page['locator']>) => Promise<void>,
) {
  const operation = page.locator(`[id$="-${id}"]`)
  if (!(await operation.locator('.execute').isVisible()))
    await operation.locator('.opblock-summary-control').click()
  await fill(operation)
  await operation.locator('.execute').click()
  const answer = operation.locator('.live-responses-table')
  await answer.locator('.response .response-col_status').first().waitFor()
  await page.waitForTimeout(100)
  const status = (await answer.locator('.response .response-col_status').first().innerText())
    .trim()
    .slice(0, 3)
  const body = await answer
    .locator('.response .highlight-code .microlight, .response .highlight-code code')
    .first()
    .innerText({ timeout: 300 })
    .catch(() => '')
  return { status, body: body.startsWith('{') ? JSON.parse(body) : body }
}

/** The whole life of a video, on the page alone. */
async function life(t: Test, page: Page) {
  const withId = (id: string) => async (operation: ReturnType<Page['locator']>) =>
    operation.locator('input[placeholder="id"]').fill(id)
  const created = await execute(page, 'createVideo', async () => {})
  t.match(created, { status: '201', body: { stage: 'awaiting-upload' } }, 'the example runs as it stands')
  const { id } = created.body
  const uploaded = await execute(page, 'postContent', async (operation) => {
    await withId(id)(operation)
    await operation.locator('input[type=file]').setInputFiles(sample)
  })
  t.equal(uploaded.status, '204', JSON.stringify(uploaded.body))
  let status = 'pending'
  for (let tries = 0; status === 'pending' && tries < 50; tries++)
    status = (await execute(page, 'getStatus', withId(id))).body.status
  t.equal(status, 'ready')
  t.match(await execute(page, 'getInfo', withId(id)), {
    status: '200',
    body: { width: 640, height: 360, duration: 5 },
  })
  t.match(await execute(page, 'getThumbnail', withId(id)), {
    status: '200',
    body: { mimeType: 'image/jpeg' },
  })
  t.equal((await execute(page, 'deleteVideo', withId(id))).status, '204')
  t.match(
    await execute(page, 'getVideo', withId(id)),
    { status: '410', body: { code: 'video-deleted' } },
    'errors are readable',
  )
}

t.test('with an API key', { skip }, async (t) => {
  const gateway = await startGateway(t)
  const page = await browser.newPage({ viewport: { width: 1300, height: 1600 } })
  const errors: string[] = []
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
  await page.goto(`${gateway.url}/docs`)
  await page.locator('.btn.authorize').first().click()
  await page.locator('.auth-container input').first().fill(key)
  await page.locator('.auth-container .auth.authorize').first().click()
  await page.locator('.auth-container .btn-done').first().click()
  await life(t, page)
  t.same(
    errors.filter((text) => !/status of 410/.test(text)),
    [],
    'the browser has nothing to complain of',
  )
  await page.close()
})

t.test('with the client-credentials flow', { skip }, async (t) => {
  const gateway = await startGateway(t, {
    env: { OAUTH_CLIENTS: `cms:${hashSecret('s3cret').toString('hex')}` },
  })
  const page = await browser.newPage({ viewport: { width: 1300, height: 1600 } })
  await page.goto(`${gateway.url}/docs`)
  await page.locator('.btn.authorize').first().click()
  const form = page.locator('.auth-container', { hasText: 'clientCredentials' })
  await form
    .locator('input#client_id_clientCredentials, input[data-name="clientId"], input[id^=client_id]')
    .first()
    .fill('cms')
  await form
    .locator(
      'input#client_secret_clientCredentials, input[data-name="clientSecret"], input[id^=client_secret]',
    )
    .first()
    .fill('s3cret')
  await form.getByText('select all').click()
  await form.locator('.auth.authorize').click()
  await form.getByText('Logout').waitFor()
  await form.locator('.btn-done').click()
  await life(t, page)
  await page.close()
})
