import type ApiVideoClient from '@api.video/nodejs-client'
import type AuthenticatePayload from '@api.video/nodejs-client/lib/model/AuthenticatePayload.js'
import type RefreshTokenPayload from '@api.video/nodejs-client/lib/model/RefreshTokenPayload.js'

type Videos = ApiVideoClient['videos']
type Answer<Method extends (...parameters: never[]) => Promise<unknown>> = Awaited<ReturnType<Method>>
type Token = Answer<ApiVideoClient['getAccessToken']>

/** api.video's JSON, after the types of its own client. */
export type NewVideo = Wire<Parameters<Videos['create']>[0]>
export type Video = Wire<Answer<Videos['get']>>
export type VideoList = Wire<Answer<Videos['list']>>
export type VideoStatus = Wire<Answer<Videos['getStatus']>>
export type Ingest = NonNullable<NonNullable<VideoStatus['ingest']>['status']>
export type Quality = NonNullable<NonNullable<VideoStatus['encoding']>['qualities']>[number]
export type TokenRequest = Partial<AuthenticatePayload.default & RefreshTokenPayload.default>
export type AccessToken = { [Field in keyof Token as Snake<Field>]: Token[Field] }

/**
 * The client's types as JSON: dates are text, numbers that are not known yet are null, and what is a reserved word in
 * JavaScript has no `_` in front of it.
 */
type Wire<T> = T extends Date
  ? string
  : T extends number
    ? number | null
    : T extends (infer Item)[]
      ? Wire<Item>[]
      : T extends object
        ? { [Field in keyof T as Field extends `_${infer Bare}` ? Bare : Field]: Wire<T[Field]> }
        : T

type Snake<Name extends string> = Name extends `${infer First}${infer Rest}`
  ? `${First extends Lowercase<First> ? First : `_${Lowercase<First>}`}${Snake<Rest>}`
  : Name
