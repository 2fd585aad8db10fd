import { v7 as uuidv7 } from 'uuid'
import type { VideoStore } from '../../src/publication/store.ts'
import type { AttemptResult, OwnEvent, WebhookEndpoint } from '../../src/publication/webhooks.ts'

/** Makes a row as the API would, for `insertEndpoint`; `changes` say what matters to the test. */
export const anEndpoint =
  (changes: Partial<WebhookEndpoint> = {}) =>
  (now: number, lastPosition: number): WebhookEndpoint => ({
    id: uuidv7(),
    url: 'https://example.com/hook',
    description: null,
    events: null,
    enabled: true,
    disabledReason: null,
    generation: 1,
    renewedAt: null,
    failingSince: null,
    after: lastPosition,
    createdAt: now,
    updatedAt: now,
    version: 1,
    ...changes,
  })

/** Adds an endpoint. */
export async function addEndpoint(
  store: VideoStore,
  changes: Partial<WebhookEndpoint> = {},
): Promise<WebhookEndpoint> {
  const endpoint = await store.insertEndpoint(anEndpoint(changes), 1_000)
  if (!endpoint) throw new Error('there are 1,000 endpoints')
  return endpoint
}

export const anOwnEvent = (type: OwnEvent['type'] = 'webhook.test'): OwnEvent => {
  const id = uuidv7()
  return { id, type, body: JSON.stringify({ id, type, text: 'Ümläute, \0 and "quotes"' }) }
}

export const delivered: AttemptResult = {
  responseStatus: 204,
  failure: undefined,
  response: null,
  retryIn: undefined,
}

export const failed = (retryIn?: number): AttemptResult => ({
  responseStatus: 500,
  failure: 'status 500',
  response: 'a NUL \0 and a lone surrogate \ud800',
  retryIn,
})

/** Fans out everything there is. */
export async function fanOutAll(store: VideoStore, limit = 50): Promise<void> {
  while (await store.fanOut(limit));
}
