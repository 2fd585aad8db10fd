import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { hashSecret } from '../../src/auth/credentials.ts'
import { type Json, key, startGateway, type TestGateway } from '../support/gateway.ts'

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
  await operation.locator('.execute').waitFor()
  // What an earlier call was answered is no answer of this one.
  const clear = operation.locator('.btn-clear')
  if (await clear.isVisible()) await clear.click()
  const answer = operation.locator('.live-responses-table')
  const answered = answer.locator('.response .response-col_status').first()
  const incomplete = operation.locator('input.invalid, .validation-errors').first()
  // The page takes a moment to notice what was typed, and complains of a field that it still thinks empty.
  for (let tries = 0; tries === 0 || ((await incomplete.isVisible()) && tries < 20); tries++) {
    await fill(operation)
    await operation.locator('.execute').click()
    await answered.or(incomplete).first().waitFor()
  }
  await answered.waitFor()
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

/** Opens the page with the test's key. @returns the page and what its browser complains of */
async function openDocs({ url }: TestGateway, viewport = { width: 1300, height: 900 }) {
  const page = await browser.newPage({ viewport })
  const errors: string[] = []
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
  await page.goto(`${url}/docs`)
  await page.locator('.btn.authorize').first().click()
  await page.locator('.auth-container input').first().fill(key)
  await page.locator('.auth-container .auth.authorize').first().click()
  await page.locator('.auth-container .btn-done').first().click()
  return { page, errors }
}

t.test('Swagger UI works with an API key', { skip }, async (t) => {
  const gateway = await startGateway(t)
  const { page, errors } = await openDocs(gateway)
  await life(t, page)
  t.same(
    errors.filter((text) => !/status of 410/.test(text)),
    [],
    'the browser has nothing to complain of',
  )
  await page.close()
})

const twoPlatforms = { PLATFORMS: 'sandbox,mux', MUX_TOKEN_ID: 'x', MUX_TOKEN_SECRET: 'x' }
const clients = { OAUTH_CLIENTS: `cms:${hashSecret('s3cret').toString('hex')}` }

t.test(
  'every operation works with the values that the page proposes, in every media type',
  { skip },
  async (t) => {
    const gateway = await startGateway(t, { env: { ...twoPlatforms, ...clients } })
    const { page, errors } = await openDocs(gateway)
    const { body: document } = await gateway.call('GET', '/docs/json')
    // A platform's webhook is signed, which nobody does by hand.
    const operations: Json[] = Object.entries<Json>(document.paths)
      .flatMap(([path, item]) => Object.values<Json>(item).map((operation) => ({ path, ...operation })))
      .filter(({ operationId }) => operationId !== 'receivePlatformWebhook')
    t.equal(operations.length, 27)
    for (const { path, operationId, requestBody, responses } of operations)
      for (const type of Object.keys(requestBody?.content ?? { none: {} })) {
        const { id, event = '' } = path.startsWith('/v1/webhooks')
          ? await deliveryFor(gateway)
          : { id: await videoFor(gateway, operationId) }
        const { status, body } = await execute(page, operationId, async (operation) => {
          if (type !== 'none') await operation.getByLabel('Request content type').selectOption(type)
          const fields = [
            ['input[placeholder="id"]', id],
            ['input[placeholder="event"]', event],
            ['[data-property-name="client_id"] input:not([type=checkbox])', 'cms'],
            ['[data-property-name="client_secret"] input:not([type=checkbox])', 's3cret'],
          ] as const
          for (const [field, value] of fields)
            if (await operation.locator(field).count()) await operation.locator(field).fill(value)
          const file = operation.locator('input[type=file]')
          if (await file.count()) await file.setInputFiles(sample)
        })
        const good = Object.keys(responses).find((code) => code.startsWith('2'))
        t.equal(status, good, `${operationId} ${type}: ${JSON.stringify(body)}`)
        if (operationId.startsWith('createVideo'))
          t.match(body, { reference: 'cms-4711', description: 'Of the day', platform: { name: 'sandbox' } })
        await page.locator(`[id$="-${operationId}"] .opblock-summary-control`).click()
      }
    t.same(errors, [])
    await page.close()
  },
)

/** A video in the stage that the operation needs. */
async function videoFor(gateway: TestGateway, operationId: string): Promise<string> {
  const { id } = await gateway.create()
  if (['getInfo', 'getThumbnail'].includes(operationId)) {
    await gateway.put(id, readFileSync(sample))
    await gateway.until(id, ({ status }) => status === 'ready')
  }
  return id
}

/** An endpoint, where nothing listens, and an event that was sent to it. */
async function deliveryFor({ call }: TestGateway): Promise<{ id: string; event: string }> {
  const { body } = await call('POST', '/v1/webhooks', { json: { url: 'http://127.0.0.1:9/' } })
  const test = await call('POST', `/v1/webhooks/${body.id}/test`)
  return { id: body.id, event: test.body.eventId }
}

t.test('a form whose optional fields were cleared creates a video', { skip }, async (t) => {
  const gateway = await startGateway(t)
  const { page } = await openDocs(gateway)
  const { status, body } = await execute(page, 'createVideoWithContent', async (operation) => {
    for (const name of ['description', 'reference'])
      await operation.locator(`[data-property-name="${name}"] input:not([type=checkbox])`).fill('')
    await operation.locator('[data-property-name="platform"] select').selectOption('')
    await operation.locator('input[type=file]').setInputFiles(sample)
  })
  t.match({ status, body }, { status: '201', body: { description: null, reference: null } })
  await page.close()
})

t.test('the page fits a desktop and a phone', { skip }, async (t) => {
  const gateway = await startGateway(t, { env: { ...twoPlatforms, ...clients } })
  const { page } = await openDocs(gateway)
  const start = await page.locator('body').innerText()
  t.match(start, /five steps[\s\S]+npm run apikey/)
  t.notMatch(start, /Explore/)
  t.equal(await page.locator('.topbar, img[alt*=astify]').count(), 0)
  t.equal(await page.title(), 'Video gateway')

  const { body: document } = await gateway.call('GET', '/docs/json')
  for (const [path, item] of Object.entries<Json>(document.paths))
    for (const [method, { operationId }] of Object.entries<Json>(item)) {
      const operation = page.locator(`[id$="-${operationId}"]`)
      await operation.locator('.opblock-summary-control').click()
      await operation.locator('.execute').waitFor()
      const { height = 0 } = (await operation.boundingBox()) ?? {}
      t.ok(height > 0 && height < 1800, `${method} ${path}: ${height} pixels are less than two screens`)
      const text = await operation.innerText()
      t.notMatch(text, /\(\$(line|text)\)|string \||Send empty value|No links/, `${method} ${path}`)
      await page.setViewportSize({ width: 390, height: 844 })
      const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth')
      t.equal(overflow, 0, `${method} ${path} needs no scrolling to the side on a phone`)
      await page.setViewportSize({ width: 1300, height: 900 })
      await operation.locator('.opblock-summary-control').click()
    }

  const creation = page.locator('[id$="-createVideoWithContent"]')
  await creation.locator('.opblock-summary-control').click()
  const choices = await creation.locator('[data-property-name="platform"] option').allInnerTexts()
  t.strictSame(
    choices.filter((choice) => choice !== '--'),
    ['sandbox', 'mux'],
  )
  const example = creation.getByText('/problems/invalid-request')
  t.equal(await example.count(), 0)
  await creation.getByRole('button', { name: 'invalid-request' }).click()
  await example.first().waitFor()
  t.equal(await creation.locator('tr[data-code="400"] .response-control-examples option').count(), 2)
  await creation.getByRole('button', { name: 'invalid-request' }).click()
  t.equal(await example.count(), 0)
  await page.close()
})

t.test('Swagger UI works with client credentials', { skip }, async (t) => {
  const gateway = await startGateway(t, { env: clients })
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
