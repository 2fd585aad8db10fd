import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { GatewayError } from '../../errors.ts'
import { type PlatformHttp, parseJson } from '../http/http.ts'
import type { PlatformRequest } from '../http/request.ts'

const Envelope = Type.Object({
  success: Type.Boolean(),
  errors: Type.Optional(
    Type.Union([Type.Null(), Type.Array(Type.Object({ code: Type.Integer({ minimum: 0, maximum: 1e9 }) }))]),
  ),
})

/**
 * Calls to Cloudflare's API, whose responses have an envelope
 * (https://developers.cloudflare.com/fundamentals/api/how-to/make-api-calls/).
 */
export function cloudflareApi(platform: string, http: PlatformHttp) {
  return {
    /** Returns the `result` of a response. It counts only if the envelope says `success`, with any HTTP status. */
    async result<T extends TSchema>(schema: T, request: PlatformRequest): Promise<Static<T>> {
      const { body } = await http.send(request)
      checkSuccess(platform, body)
      const answer: { result: Static<T> } = parseJson(
        platform,
        Type.Object({ result: schema as TSchema }),
        body,
      )
      return answer.result
    },

    /** For calls without a result, with or without an envelope. */
    async done(request: PlatformRequest): Promise<void> {
      const { body } = await http.send(request)
      if (body.length > 0) checkSuccess(platform, body)
    },
  }
}

/** @throws GatewayError with the first error codes; the vendor's texts are left out */
function checkSuccess(platform: string, body: Buffer): void {
  const { success, errors } = parseJson(platform, Envelope, body)
  if (success) return
  const codes =
    errors
      ?.slice(0, 5)
      .map(({ code }) => code)
      .join(', ') || 'none'
  throw new GatewayError('platform-rejected', `${platform} reported a failure (error codes: ${codes})`)
}
